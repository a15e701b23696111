"""Holds, keys and checkpoints of a backup are those of its log, and nothing of before is left."""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from audit.anchors.store import audit_anchors
from audit.backup.form import BackupRefused, Packer, unpack
from audit.checkpoint import Checkpoint
from audit.index.tables import audit_postings, audit_segments
from audit.log import Log
from audit.log_keys import read_log_keys
from audit.note import Note
from audit.query import Query, find
from audit.retention.holds import read_holds
from audit.sinks.store import read_next
from meshca.errors import EvidenceBroken
from tests.audit.backup.world import (
    KEY,
    ORIGIN,
    OTHER_KEY,
    ask_for_release,
    backup,
    bring_back,
    fresh,
    place_hold,
    sign,
    tell_key,
)
from tests.audit.index.world import entries as indexed_entries
from tests.audit.index.world import entry as indexed_entry
from tests.audit.index.world import index
from tests.audit.retention.world import append, clear, entry, execute
from tests.stores import sqlite_engine

Row = dict[str, Any]
LOG_TABLES = (
    "audit_entries",
    "audit_nodes",
    "audit_head",
    "audit_checkpoints",
    "audit_log_keys",
    "audit_holds",
)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = fresh(tmp_path)
    yield engine
    engine.dispose()


def changed(content: bytes, change: Callable[[list[Row]], object]) -> bytes:
    """Return the backup with other rows, and a right end."""
    lines = list(unpack(io.BytesIO(content)))
    rows = [orjson.loads(text) for letter, text in lines if letter == b"T"]
    change(rows)
    packer = Packer()
    kept = [line for line in lines if line[0] != b"T"]
    made = [(b"T", orjson.dumps(row, option=orjson.OPT_SORT_KEYS)) for row in rows]
    return b"".join([*(packer.pack(*line) for line in kept + made), packer.end()])


def of(rows: list[Row], table: str) -> Row:
    """Return the first row of `table`."""
    return next(row["row"] for row in rows if row["table"] == table)


def drop(rows: list[Row], table: str) -> None:
    rows[:] = [row for row in rows if row["table"] != table]


def release(rows: list[Row]) -> None:
    of(rows, "audit_holds").update(released_at=1, released_by="uid:2", released_reason="no")


def foreign_key(rows: list[Row]) -> None:
    own = of(rows, "audit_log_keys")
    foreign = {**own, "verifier": str(OTHER_KEY.verifier)}
    rows.append({"table": "audit_log_keys", "row": foreign})


def other_root(rows: list[Row]) -> None:
    kept = of(rows, "audit_checkpoints")
    kept["note"] = signed_note(kept["size"], bytes(32), KEY)


def unsigned(rows: list[Row]) -> None:
    kept = of(rows, "audit_checkpoints")
    kept["note"] = signed_note(kept["size"], bytes(32), OTHER_KEY)


def signed_note(size: int, root: bytes, key: Any) -> str:
    text = str(Checkpoint(ORIGIN, size, root))
    return str(Note(text, (key.sign(text),)))


CHANGES: list[tuple[str, Callable[[list[Row]], object], str]] = [
    ("a hold left out", lambda rows: drop(rows, "audit_holds"), "not those that its entries say"),
    ("a hold released", release, "not those that its entries say"),
    (
        "a hold of less",
        lambda rows: of(rows, "audit_holds").update(scope='{"serial":"1"}'),
        "not those that its entries say",
    ),
    ("a hold twice", lambda rows: rows.append(rows[-1]), "of no entry"),
    ("a key left out", lambda rows: drop(rows, "audit_log_keys"), "not those that its entries"),
    ("a foreign key", foreign_key, "of no entry"),
    (
        "a key retired",
        lambda rows: of(rows, "audit_log_keys").update(stage="retired"),
        "not those that its entries say",
    ),
    ("a checkpoint of another root", other_root, "not of its log"),
    ("a checkpoint of a foreign key", unsigned, "not signed by the log"),
    (
        "a checkpoint at another size",
        lambda rows: of(rows, "audit_checkpoints").update(size=1),
        "not of its log",
    ),
    (
        "a checkpoint of other signers",
        lambda rows: of(rows, "audit_checkpoints").update(keys="00000000"),
        "not of its log",
    ),
]


@pytest.mark.parametrize(("name", "change", "said"), CHANGES, ids=[c[0] for c in CHANGES])
def test_rows_that_the_log_does_not_say_are_refused(
    other: sa.Engine, name: str, change: Callable[[list[Row]], object], said: str
) -> None:
    tell_key(other, KEY)
    append(other, *(entry(n) for n in range(5)))
    place_hold(other)
    sign(other)
    content = backup(other)
    clear(other)
    with pytest.raises(BackupRefused, match=said) as caught:
        bring_back(other, changed(content, change))
    assert caught.value.reason == "changed"
    assert Log(other).head().size == 0
    assert bring_back(other, changed(content, lambda rows: rows)).lost == 0
    assert len(read_holds(other)) == 1


def test_a_hold_comes_back_with_every_step(engine: sa.Engine, other: sa.Engine) -> None:
    kept, asked, released = place_hold(engine), place_hold(engine), place_hold(engine)
    ask_for_release(engine, asked, "uid:1")
    for actor in ("uid:1", "uid:2"):
        ask_for_release(engine, released, actor)
    sign(engine)
    bring_back(other, backup(engine))
    assert read_holds(other, in_force=False) == read_holds(engine, in_force=False)
    assert {hold.name for hold in read_holds(other)} == {kept, asked}


def test_a_backup_has_the_holds_that_the_log_says(engine: sa.Engine, other: sa.Engine) -> None:
    name = place_hold(engine)
    sign(engine)
    place_hold(engine)  # behind the checkpoint, so it is not in the backup, as its entry is not
    execute(engine, "DELETE FROM audit_holds")
    bring_back(other, backup(engine))
    assert [hold.name for hold in read_holds(other)] == [name]


def test_a_step_that_cannot_be_makes_no_backup(engine: sa.Engine) -> None:
    append(engine, entry(1, kind="legal_hold", details={"hold": "hold-1", "step": "released"}))
    sign(engine)
    with pytest.raises(EvidenceBroken, match="no step of a hold"):
        backup(engine)


def test_a_key_that_was_given_up_signs_no_backup(engine: sa.Engine, other: sa.Engine) -> None:
    tell_key(engine, KEY)
    tell_key(engine, OTHER_KEY)
    tell_key(engine, KEY, "retired")
    sign(engine, OTHER_KEY)
    assert bring_back(other, backup(engine), keys=(OTHER_KEY.verifier,)).checkpoint.size == 3
    assert [key.stage for key in read_log_keys(other, ORIGIN)].count("retired") == 1
    execute(engine, "DELETE FROM audit_checkpoints")
    clear(other)
    sign(engine, KEY)
    with pytest.raises(BackupRefused, match="given up before") as caught:
        bring_back(other, backup(engine))
    assert caught.value.reason == "not_signed"


def test_nothing_that_was_made_of_another_log_is_left(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *indexed_entries(0, 1024))
        sign(engine)
        content = backup(engine)
        clear(engine)
        strange = replace(indexed_entry(1), spiffe_id="spiffe://example.org/other", serial="")
        append(engine, *(strange for _ in range(1024)))
        index(engine)
        execute(engine, "INSERT INTO audit_sinks VALUES ('siem', 900, 1)")
        execute(engine, "INSERT INTO audit_anchors VALUES ('file', 900, 1, 0, NULL, '', 1)")
        for table in LOG_TABLES:
            execute(engine, f"DELETE FROM {table}")  # noqa: S608  # our own names
        bring_back(engine, content)
        assert [one.index for one in find(engine, Query(serial=indexed_entry(5).serial)).entries]
        assert read_next(engine, "siem") == 0
        with engine.connect() as connection:
            tables: tuple[sa.Table, ...] = (audit_segments, audit_postings, audit_anchors)
            assert all(not connection.execute(sa.select(table)).all() for table in tables)
