"""A backup holds the whole log to a checkpoint, and is restored whole or not at all."""

import asyncio
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa

from audit.backup.form import BackupRefused, Packer, unpack
from audit.backup.restore import known_checkpoints
from audit.checkpoint import Checkpoint
from audit.log import Log
from audit.retention.holds import read_holds
from audit.retention.partitions import partitions
from audit.verify import verify
from meshca.errors import EvidenceBroken, StoreUnavailable
from tests.audit.backup.world import (
    KEY,
    ORIGIN,
    OTHER_KEY,
    backup,
    bring_back,
    checkpoint,
    fresh,
    place_hold,
    sign,
)
from tests.audit.retention.world import append, blank, clear, entry, execute, redact, rows
from tests.fakes import FakeClock

Lines = list[tuple[bytes, bytes]]


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = fresh(tmp_path)
    yield engine
    engine.dispose()


def fill(engine: sa.Engine, count: int = 30) -> None:
    """Append entries, redact some, and sign."""
    kinds = ("read", "ban", "refusal")
    append(engine, *(entry(n, kind=kinds[n % 3]) for n in range(count)))
    asyncio.run(redact(engine, FakeClock()))
    place_hold(engine)
    sign(engine)


def lines_of(content: bytes) -> Lines:
    return list(unpack(io.BytesIO(content)))


def packed(lines: Lines) -> bytes:
    packer = Packer()
    return b"".join([*(packer.pack(*line) for line in lines), packer.end()])


def test_what_is_restored_is_the_log_and_it_goes_on(engine: sa.Engine, other: sa.Engine) -> None:
    fill(engine)
    signed = checkpoint(engine)
    append(engine, entry(99, kind="ban"))  # after the checkpoint: not in the backup
    restored = bring_back(other, backup(engine))
    assert (restored.checkpoint, restored.redacted, restored.lost) == (signed, 10, 0)
    assert rows(other)[: signed.size] == rows(engine)[: signed.size]
    assert Log(other).root_at(signed.size) == signed.root
    assert blank(other) == blank(engine)
    assert read_holds(other) == read_holds(engine)
    append(other, *(entry(n, kind="ban") for n in range(300)))
    assert verify(other).size == signed.size + 301
    sign(other)
    assert backup(other)


def test_a_restore_is_an_entry(engine: sa.Engine, other: sa.Engine) -> None:
    fill(engine)
    signed = checkpoint(engine)
    bring_back(other, backup(engine))
    body = orjson.loads(rows(other)[-1].body)
    assert (body["kind"], body["actor"], body["reason"]) == ("restore", "uid:0", "the disk died")
    assert body["details"]["size"] == signed.size
    assert body["details"]["root"] == signed.root.hex()


def test_postgresql_gets_its_log_and_its_months_back(engine: sa.Engine, other: sa.Engine) -> None:
    fill(other)
    bring_back(engine, backup(other))
    assert verify(engine).size == Log(other).head().size + 1
    expected = ["audit_entries_2026_07", "audit_entries_2026_11"]
    assert partitions(engine) == (expected if engine.dialect.name == "postgresql" else [])


def test_a_large_log_is_restored_with_its_tree(engine: sa.Engine, other: sa.Engine) -> None:
    append(engine, *(entry(n) for n in range(5_000)))
    sign(engine)
    bring_back(other, backup(engine))
    assert verify(other).size == 5_001
    assert Log(other).inclusion_proof(4_321, 5_000) == Log(engine).inclusion_proof(4_321, 5_000)


def test_a_backup_cut_at_any_byte_is_refused(tmp_path: Path) -> None:
    engine = fresh(tmp_path)
    fill(engine)
    content = backup(engine)
    clear(engine)
    for length in range(0, len(content), 7):
        with pytest.raises(BackupRefused) as caught:
            bring_back(engine, content[:length])
        assert caught.value.reason in ("cut", "changed", "malformed")
    assert Log(engine).head().size == 0
    bring_back(engine, content)
    engine.dispose()


def test_a_backup_changed_at_any_byte_is_refused(tmp_path: Path) -> None:
    engine = fresh(tmp_path)
    fill(engine)
    content = backup(engine)
    clear(engine)
    for position in range(10, len(content), 13):  # the head of gzip has bytes of no meaning
        changed = bytearray(content)
        changed[position] ^= 0x40
        if _unpacked(changed) == _unpacked(content):  # the bits that fill the last byte of a block
            continue
        with pytest.raises(BackupRefused):
            bring_back(engine, bytes(changed))
    assert Log(engine).head().size == 0
    engine.dispose()


def _unpacked(content: bytes | bytearray) -> bytes | None:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return None


def _body(lines: Lines) -> None:
    position = next(n for n, line in enumerate(lines) if line[0] == b"E")
    lines[position] = (b"E", lines[position][1].replace(b"uid:1000", b"uid:1001"))


def _left(lines: Lines, old: bytes, new: bytes) -> None:
    position = next(n for n, line in enumerate(lines) if line[0] == b"R")
    lines[position] = (b"R", lines[position][1].replace(old, new))


def _swap(lines: Lines) -> None:
    lines[3], lines[4] = lines[4], lines[3]


def _blank(lines: Lines) -> None:
    from audit.merkle import leaf_hash

    position = next(n for n, line in enumerate(lines) if line[0] == b"E")
    document = orjson.loads(lines[position][1])
    left = {
        "index": document["index"],
        "kind": document["kind"],
        "leaf_hash": leaf_hash(lines[position][1]).hex(),
        "time": 1,
    }
    lines[position] = (b"R", orjson.dumps(left))


def _row(lines: Lines) -> None:
    lines.append((b"T", b'{"table":"certificates","row":{"serial":"1"}}'))


def _size(lines: Lines) -> None:
    lines[0] = (b"H", lines[0][1].replace(b'"size":', b'"size":1'))


CHANGES: list[tuple[str, Callable[[Lines], object], str]] = [
    ("a body", _body, "changed"),
    ("the kind of a redacted entry", lambda x: _left(x, b'"read"', b'"bans"'), "changed"),
    ("the time of a redacted entry", lambda x: _left(x, b'"time":1', b'"time":2'), "changed"),
    ("two entries swapped", _swap, "malformed"),
    ("an entry missing", lambda x: x.pop(3), "malformed"),
    ("the last entry missing", lambda x: x.pop(-3), "changed"),
    ("an entry twice", lambda x: x.insert(3, x[3]), "malformed"),
    ("a body blanked without a redaction", _blank, "changed"),
    ("a row of another table", _row, "malformed"),
    ("another size", _size, "changed"),
    ("a line of no kind", lambda x: x.append((b"X", b"{}")), "malformed"),
    ("no header", lambda x: x.pop(0), "malformed"),
]


@pytest.mark.parametrize(("name", "change", "reason"), CHANGES, ids=[c[0] for c in CHANGES])
def test_who_changes_a_backup_and_ends_it_anew_is_found(
    tmp_path: Path, name: str, change: Callable[[Lines], object], reason: str
) -> None:
    engine = fresh(tmp_path)
    fill(engine)
    lines = lines_of(backup(engine))
    assert [letter for letter, _ in lines[-4:]] == [b"E", b"E", b"T", b"T"]
    clear(engine)
    change(lines)
    with pytest.raises(BackupRefused) as caught:
        bring_back(engine, packed(lines))
    assert caught.value.reason == reason
    assert Log(engine).head().size == 0
    engine.dispose()


def test_a_backup_of_another_log_or_key_is_refused(engine: sa.Engine, other: sa.Engine) -> None:
    fill(engine)
    content = backup(engine)
    with pytest.raises(BackupRefused) as caught:
        bring_back(other, content, origin="example.com/meshca/audit")
    assert caught.value.reason == "other_log"
    with pytest.raises(BackupRefused) as caught:
        bring_back(other, content, keys=(OTHER_KEY.verifier,))
    assert caught.value.reason == "not_signed"


def test_a_backup_is_restored_into_an_empty_log_only(engine: sa.Engine, other: sa.Engine) -> None:
    fill(engine)
    append(other, entry(1))
    with pytest.raises(BackupRefused) as caught:
        bring_back(other, backup(engine))
    assert caught.value.reason == "not_empty"
    assert Log(other).head().size == 1


def test_an_older_backup_is_refused_unless_that_is_accepted(
    engine: sa.Engine, other: sa.Engine
) -> None:
    fill(engine)
    content = backup(engine)
    append(engine, entry(98), entry(99))
    newer = sign(engine)
    with pytest.raises(BackupRefused, match="--accept-older") as caught:
        bring_back(other, content, known=[newer])
    assert caught.value.reason == "older"
    assert Log(other).head().size == 0
    with pytest.raises(BackupRefused, match=r"set audit.origin") as caught:
        bring_back(other, content, known=[newer], accept_older=True)
    assert caught.value.reason == "same_name", "it never signs another history under this name"
    assert Log(other).head().size == 0
    terms = {"accept_older": True, "signs_as": f"{ORIGIN}/2"}
    restored = bring_back(other, content, known=[newer], **terms)
    assert restored.lost == 2
    details = orjson.loads(rows(other)[-1].body)["details"]
    assert (details["lost"], details["accepted_older"]) == (2, True)


def test_a_backup_that_contradicts_a_known_checkpoint_is_refused(
    engine: sa.Engine, other: sa.Engine
) -> None:
    fill(engine)
    wrong = Checkpoint(ORIGIN, 5, bytes(32))
    with pytest.raises(BackupRefused) as caught:
        bring_back(other, backup(engine), known=[wrong], accept_older=True)
    assert caught.value.reason == "other_log"


def test_a_checkpoint_to_compare_with_has_to_be_signed() -> None:
    with pytest.raises(BackupRefused) as caught:
        known_checkpoints(["no note"], [KEY.verifier], ORIGIN)
    assert caught.value.reason == "not_signed"


def test_without_a_checkpoint_there_is_no_backup(engine: sa.Engine) -> None:
    append(engine, entry(1))
    with pytest.raises(StoreUnavailable, match="no checkpoint"):
        backup(engine)


def test_a_redaction_that_no_checkpoint_covers_is_waited_for(engine: sa.Engine) -> None:
    append(engine, entry(1))
    sign(engine)
    asyncio.run(redact(engine, FakeClock()))
    with pytest.raises(StoreUnavailable, match="try again"):
        backup(engine)
    sign(engine)
    assert backup(engine)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE audit_entries SET body = replace(body, 'uid:', 'uiD:')", "does not match"),
        ("DELETE FROM audit_entries WHERE leaf_index = 7", "entry 7 is missing"),
        ("UPDATE audit_entries SET body = NULL WHERE leaf_index = 7", "entry 7 is gone"),
        (
            "UPDATE audit_entries SET body = NULL, leaf_hash ="
            " (SELECT e.leaf_hash FROM audit_entries e WHERE e.leaf_index = 3)",
            "do not lead",
        ),
    ],
)
def test_a_log_that_was_tampered_with_is_not_called_a_backup(
    engine: sa.Engine, change: str, said: str
) -> None:
    append(engine, *(entry(n, kind="ban") for n in range(10)))
    sign(engine)
    execute(engine, change)
    with pytest.raises(EvidenceBroken, match=said):
        backup(engine)


def test_it_is_gzip_that_anybody_can_read(engine: sa.Engine) -> None:
    fill(engine)
    lines = gzip.decompress(backup(engine)).splitlines()
    assert lines[0].startswith(b'H {"backup":1,"checkpoint":"example.org/meshca/audit\\n')
    assert lines[-1].startswith(b'Z {"lines":')
