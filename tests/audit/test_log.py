"""The chain of audit entries: what it records, and that every kind of change is noticed."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from audit.entry import Entry
from audit.log import GENESIS, MAXIMUM_BODY_BYTES, EntrySink, Log, _body, audit_entries
from meshca.errors import EvidenceBroken
from tests.stores import sqlite_engine, writer_of

TIME = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)


def entry(number: int = 1, **changes: object) -> Entry:
    values: dict[str, object] = {
        "time": TIME + timedelta(seconds=number),
        "kind": "issuance",
        "outcome": "done",
        "actor": "spiffe://example.org/ns/shop/sa/orders",
        "spiffe_id": "spiffe://example.org/ns/shop/sa/orders",
        "serial": f"{number:x}",
        "details": {"authority": "ab", "lifetime_seconds": 3600},
    }
    return Entry(**{**values, **changes})  # type: ignore[arg-type]  # a builder for tests


def append(engine: sa.Engine, *entries: Entry) -> None:
    async def story() -> None:
        async with writer_of(engine) as writer:
            await writer.submit(*entries)

    asyncio.run(story())


def rows(engine: sa.Engine) -> list[sa.Row[tuple[object, ...]]]:
    with engine.connect() as connection:
        return list(connection.execute(sa.select(audit_entries).order_by("sequence")))


def test_an_empty_log_verifies_and_its_head_is_the_genesis(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        assert Log(engine).head() == Log(engine).verify()
        assert Log(engine).head().hash == GENESIS


def test_the_chain_is_sha256_over_previous_hash_and_canonical_body(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entry(1), entry(2))
        append(engine, entry(3))
        digest = GENESIS
        for number, row in enumerate(rows(engine), start=1):
            body = orjson.loads(row.body)
            assert body["v"] == 1
            assert body["sequence"] == number == row.sequence
            assert row.body.encode() == orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
            digest = hashlib.sha256(digest + row.body.encode()).digest()
            assert row.hash == digest
        assert Log(engine).verify() == Log(engine).head()
        assert Log(engine).head().sequence == 3


def test_the_body_holds_all_of_the_entry(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entry(1, reason="expired", node="n1", pod="p", service_account="s"))
        body = orjson.loads(str(rows(engine)[0].body))
    assert body == {
        "v": 1,
        "sequence": 1,
        "time": "2026-11-01T12:00:01.123456Z",
        "kind": "issuance",
        "outcome": "done",
        "actor": "spiffe://example.org/ns/shop/sa/orders",
        "spiffe_id": "spiffe://example.org/ns/shop/sa/orders",
        "serial": "1",
        "cluster": "",
        "namespace": "",
        "service_account": "s",
        "pod": "p",
        "node": "n1",
        "reason": "expired",
        "details": {"authority": "ab", "lifetime_seconds": 3600},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE audit_entries SET body = replace(body, '3600', '3601') WHERE sequence = 3",
            "hash",
        ),
        ("UPDATE audit_entries SET hash = x'00' WHERE sequence = 3", "hash"),
        ("DELETE FROM audit_entries WHERE sequence = 3", "entry 3 is missing"),
        ("UPDATE audit_entries SET spiffe_id = 'spiffe://x/y' WHERE sequence = 3", "spiffe_id"),
        ("UPDATE audit_entries SET outcome = 'refused' WHERE sequence = 3", "column outcome"),
        ("UPDATE audit_entries SET sequence = 99 WHERE sequence = 3", "entry 3 is missing"),
        ("UPDATE audit_entries SET time = time + 1 WHERE sequence = 3", "column time"),
        ("UPDATE audit_entries SET body = 'x' WHERE sequence = 3", "hash"),
    ],
)
def test_names_the_first_entry_that_was_changed(tmp_path: Path, change: str, said: str) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(1, 6)))
        Log(engine).verify()
        with engine.begin() as connection:
            connection.exec_driver_sql(change)
        with pytest.raises(EvidenceBroken, match=said) as caught:
            Log(engine).verify()
    assert caught.value.sequence == 3


def test_swapped_entries_are_noticed(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(1, 4)))
        with engine.begin() as connection:
            for old, new in ((2, 9), (3, 2), (9, 3)):
                move = "UPDATE audit_entries SET sequence = ? WHERE sequence = ?"
                connection.exec_driver_sql(move, (new, old))
        with pytest.raises(EvidenceBroken, match="hash of entry 2"):
            Log(engine).verify()


def test_verifies_across_pages(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(1, 2_102)))
        assert Log(engine).verify().sequence == 2_101


def test_two_writers_make_one_chain(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as one, writer_of(engine) as two:
            work = [w.submit(entry(n)) for n in range(100) for w in (one, two)]
            await asyncio.gather(*work)

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert Log(engine).verify().sequence == 200


POISON = [
    ("lone surrogate", {"claimed": "\ud800"}, "?"),
    ("NUL", {"claimed": "a\x00b"}, "a\ufffdb"),
    ("huge text", {"claimed": "x" * (MAXIMUM_BODY_BYTES + 1)}, "x…"),
    ("huge integer", {"claimed": 10**40}, hex(10**40)),
    ("not JSON at all", {"claimed": {1, 2}}, "(set)"),
    ("deep", {"claimed": [[[[[[["x"]]]]]]] * 2, "other": "\ud800"}, "(list)"),
]


@pytest.mark.parametrize(("name", "details", "shown"), POISON, ids=[p[0] for p in POISON])
def test_what_a_caller_claims_cannot_keep_an_entry_out(
    tmp_path: Path, name: str, details: dict[str, object], shown: str
) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entry(1, details=details))
        body = str(rows(engine)[0].body)
        assert len(body) < MAXIMUM_BODY_BYTES
        assert shown in body
        Log(engine).verify()


@pytest.mark.parametrize(("text", "stored"), [("a\x00", "a\ufffd"), ("a\ud800", "a?")])
def test_columns_hold_what_the_body_holds(tmp_path: Path, text: str, stored: str) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entry(1, namespace=text))
        assert rows(engine)[0].namespace == stored
        Log(engine).verify()


@given(st.recursive(st.text() | st.integers(), st.lists, max_leaves=5), st.text())
def test_any_claim_yields_a_body(claimed: object, text: str) -> None:
    stored, body = _body(entry(1, details={"claimed": claimed}, namespace=text), 1)
    assert orjson.loads(body)["namespace"] == stored.namespace


def test_a_group_is_one_insert(tmp_path: Path) -> None:
    statements: list[str] = []
    with sqlite_engine(tmp_path) as engine:
        sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
        with engine.begin() as connection:
            EntrySink().write(connection, [entry(n) for n in range(64)])
    assert [s.split()[0] for s in statements if s != "BEGIN"] == ["SELECT", "INSERT"]
