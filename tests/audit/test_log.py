"""The log of audit entries: what it records, and that every kind of change is noticed."""

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
from audit.log import MAXIMUM_BODY_BYTES, EntrySink, Head, Log, body_of, microseconds
from audit.merkle import verify_consistency, verify_inclusion
from audit.retention.coverage import columns_digest
from audit.tree import audit_entries, audit_head, audit_nodes
from audit.verify import Verification, verify
from meshca.errors import EvidenceBroken
from tests.audit.naive import naive_root
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
        return list(connection.execute(sa.select(audit_entries).order_by("leaf_index")))


def test_an_empty_log_verifies_and_its_root_is_that_of_nothing(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        assert Log(engine).head() == verify(engine) == Head(0, hashlib.sha256().digest())


def test_leaves_are_canonical_bodies_and_the_head_is_their_tree(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entry(1), entry(2))
        append(engine, entry(3))
        leaves = []
        for number, row in enumerate(rows(engine)):
            body = orjson.loads(row.body)
            assert body["v"] == 2
            assert body["index"] == number == row.leaf_index
            assert row.body.encode() == orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
            assert row.leaf_hash == hashlib.sha256(b"\x00" + row.body.encode()).digest()
            leaves.append(row.leaf_hash)
        assert verify(engine) == Log(engine).head() == Head(3, naive_root(leaves))


def test_the_body_holds_all_of_the_entry_and_a_salt_of_its_own(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(
            engine,
            entry(1, reason="expired", node="n1", pod="p", service_account="s", fingerprint="ab"),
            entry(1, destination="d", policy="p", request_id="r"),
        )
        one, other = (orjson.loads(row.body) for row in rows(engine))
    assert len(one["salt"]) == 32
    assert one["salt"] != other["salt"]
    assert (other["destination"], other["policy"], other["request_id"]) == ("d", "p", "r")
    assert {**one, "salt": ""} == {
        "v": 2,
        "index": 0,
        "salt": "",
        "time": "2026-11-01T12:00:01.123456Z",
        "kind": "issuance",
        "outcome": "done",
        "actor": "spiffe://example.org/ns/shop/sa/orders",
        "spiffe_id": "spiffe://example.org/ns/shop/sa/orders",
        "serial": "1",
        "fingerprint": "ab",
        "cluster": "",
        "namespace": "",
        "service_account": "s",
        "pod": "p",
        "node": "n1",
        "destination": "",
        "policy": "",
        "request_id": "",
        "reason": "expired",
        "details": {"authority": "ab", "lifetime_seconds": 3600},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "UPDATE audit_entries SET body = replace(body, '3600', '3601') WHERE leaf_index = 3",
            "hash",
        ),
        ("UPDATE audit_entries SET leaf_hash = x'00' WHERE leaf_index = 3", "hash"),
        ("DELETE FROM audit_entries WHERE leaf_index = 3", "entry 3 is missing"),
        ("UPDATE audit_entries SET kind = 'refusal' WHERE leaf_index = 3", "column kind"),
        ("UPDATE audit_entries SET leaf_index = 99 WHERE leaf_index = 3", "entry 3 is missing"),
        ("UPDATE audit_entries SET time = time + 1 WHERE leaf_index = 3", "column time"),
        ("UPDATE audit_entries SET body = 'x' WHERE leaf_index = 3", "hash"),
    ],
)
def test_names_the_first_entry_that_was_changed(tmp_path: Path, change: str, said: str) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(1, 6)))
        verify(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(change)
        with pytest.raises(EvidenceBroken, match=said) as caught:
            verify(engine)
    assert caught.value.index == 3


def test_swapped_entries_are_noticed(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(1, 4)))
        with engine.begin() as connection:
            for old, new in ((1, 9), (2, 1), (9, 2)):
                move = "UPDATE audit_entries SET leaf_index = ? WHERE leaf_index = ?"
                connection.exec_driver_sql(move, (new, old))
        with pytest.raises(EvidenceBroken, match="entry 1 says that it is 2"):
            verify(engine)


def test_verifies_across_pages(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(4_100)))
        assert verify(engine).size == 4_100


def test_two_writers_make_one_chain(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as one, writer_of(engine) as two:
            work = [w.submit(entry(n)) for n in range(100) for w in (one, two)]
            await asyncio.gather(*work)

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert verify(engine).size == 200


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
        verify(engine)


@pytest.mark.parametrize(("text", "stored"), [("a\x00", "a\ufffd"), ("a\ud800", "a?")])
def test_what_no_database_takes_is_replaced(tmp_path: Path, text: str, stored: str) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entry(1, namespace=text))
        assert orjson.loads(str(rows(engine)[0].body))["namespace"] == stored
        verify(engine)


@given(st.recursive(st.text() | st.integers(), st.lists, max_leaves=5), st.text())
def test_any_claim_yields_a_body(claimed: object, text: str) -> None:
    stored, body = body_of(entry(1, details={"claimed": claimed}, namespace=text), 1, "00")
    assert orjson.loads(body)["namespace"] == stored.namespace


def test_a_group_is_one_insert(tmp_path: Path) -> None:
    statements: list[str] = []
    with sqlite_engine(tmp_path) as engine:
        sa.event.listen(engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
        with engine.begin() as connection:
            EntrySink().write(connection, [entry(n) for n in range(64)])
    assert [s.split()[0] for s in statements if s != "BEGIN"] == ["SELECT", "INSERT", "INSERT"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (sa.update(audit_head).values(size=7), "no frontier"),
        (sa.update(audit_head).values(frontier=b"\0" * 64), "not that of the entries"),
        (sa.update(audit_nodes).values(hash=b"\0" * 32), "not that of entries 0 to 256"),
        (sa.delete(audit_nodes), "not that of entries 0 to 256"),
    ],
    ids=["size", "frontier", "node", "no node"],
)
def test_a_tree_that_is_not_that_of_the_entries_is_noticed(
    tmp_path: Path, change: sa.Executable, said: str
) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(272)))
        verify(engine)
        with engine.begin() as connection:
            connection.execute(change)
        with pytest.raises(EvidenceBroken, match=said):
            verify(engine)


def test_an_entry_beyond_the_head_is_noticed(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(3)))
        with engine.begin() as connection:
            copy = "INSERT INTO audit_entries SELECT 7, time, kind, leaf_hash, body"
            connection.exec_driver_sql(f"{copy} FROM audit_entries WHERE leaf_index = 0")
        with pytest.raises(EvidenceBroken, match="entry 7 lies beyond the head of 3 entries"):
            verify(engine)


def test_redacted_entries_keep_the_tree_and_are_named(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(9)))
        times = {n: microseconds(entry(n).time) for n in (2, 3, 7)}
        details = {
            "ranges": [[2, 3], [7, 7]],
            "kinds": {"issuance": 3},
            "columns_sha256": columns_digest((n, time, "issuance") for n, time in times.items()),
        }
        append(engine, entry(9, kind="redaction", details=details))
        before = verify(engine)
        with engine.begin() as connection:
            connection.execute(
                sa.update(audit_entries)
                .where(audit_entries.c.leaf_index.in_([2, 3, 7]))
                .values(body=None)
            )
        pass_ = Verification(engine)
        assert pass_.run() == before
        assert pass_.redacted == [range(2, 4), range(7, 8)]


def test_proofs_of_a_stored_log_verify(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, *(entry(n) for n in range(700)))
        log = Log(engine)
        leaves = [stored.leaf_hash for stored in log.entries()]
        for size in (1, 255, 256, 257, 511, 512, 513, 700):
            assert log.root_at(size) == naive_root(leaves[:size])
            for index in {0, size // 2, size - 1}:
                proof = log.inclusion_proof(index, size)
                assert verify_inclusion(index, size, leaves[index], proof, log.root_at(size))
            grown = log.consistency_proof(size, 700)
            assert verify_consistency(size, 700, log.root_at(size), log.head().root, grown)
