"""Verifying in blocks and in processes of their own comes to what one pass comes to."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.entry import Entry, Json
from audit.log import Log, body_of, microseconds
from audit.merkle import Frontier, leaf_hash
from audit.tree import audit_entries
from audit.verify import Verification, verify
from audit.verify_block import BLOCK, tasks
from meshca.errors import EvidenceBroken
from tests.audit.tampering import execute, rebuild_tree
from tests.audit.test_log import entry
from tests.stores import sqlite_engine, writer_of

LEAVES = [leaf_hash(str(number).encode()) for number in range(4096)]


def append(engine: sa.Engine, entries: list[Entry]) -> None:
    async def story() -> None:
        async with writer_of(engine) as writer:
            await writer.submit(*entries)

    asyncio.run(story())


@given(st.integers(0, 7), st.integers(0, 9), st.integers(0, 512))
def test_trees_side_by_side_are_one_tree(level: int, count: int, more: int) -> None:
    size = count << level
    more = min(more, 1 << level) if size else more
    one, _ = Frontier().extended(LEAVES[:size])
    other, _ = Frontier().extended(LEAVES[size : size + more])

    joined, _ = one.joined(other)

    assert joined == Frontier().extended(LEAVES[: size + more])[0]


def test_joining_names_the_nodes_to_keep() -> None:
    whole, kept = Frontier().extended(LEAVES[:512])
    one, _ = Frontier().extended(LEAVES[:256])
    half, _ = Frontier().extended(LEAVES[:128])
    rest, _ = Frontier().extended(LEAVES[128:256])

    assert half.joined(rest)[1] == kept[:1]
    assert one.joined(Frontier().extended(LEAVES[256:512])[0]) == (whole, [])


def test_what_does_not_fit_is_not_joined() -> None:
    one, _ = Frontier().extended(LEAVES[:3])
    with pytest.raises(ValueError, match="cannot be laid beside"):
        one.joined(Frontier().extended(LEAVES[:2])[0])


@given(st.integers(0, 3 * BLOCK), st.integers(0, 3 * BLOCK), st.data())
def test_tasks_are_the_whole_and_name_each_stop_once(
    start: int, count: int, data: st.DataObject
) -> None:
    stop = start + count
    stops = sorted(data.draw(st.sets(st.integers(0, 4 * BLOCK), max_size=9)))

    found = list(tasks(start, stop, stops, ""))

    assert [t.start for t in found] + [stop] == [start] + [t.stop for t in found]
    assert all(t.start // BLOCK == (t.stop - 1) // BLOCK for t in found)
    named = [s for t in found for s in (*t.stops, t.stop)]
    assert set(stops) & set(range(start + 1, stop + 1)) <= set(named)
    assert len(named) == len(set(named))


def test_roots_are_those_of_each_size(both_engines: sa.Engine) -> None:
    append(both_engines, [entry(number) for number in range(700)])
    stops = [0, 1, 255, 256, 300, 511, 512, 699, 700]

    run = Verification(both_engines, stops=stops)
    run.run()

    log = Log(both_engines)
    assert {size: run.roots[size] for size in stops[1:]} == {
        size: log.root_at(size) for size in stops[1:]
    }


def test_processes_of_their_own_come_to_the_same(both_engines: sa.Engine) -> None:
    append(both_engines, [entry(n, kind="log_key" if n == 7 else "ban") for n in range(300)])
    plain = Verification(both_engines, stops=[100], watch="log_key")
    apart = Verification(both_engines, stops=[100], watch="log_key", workers=2, worth_it=0)

    assert apart.run() == plain.run()
    assert apart.roots == plain.roots
    assert apart.watched == plain.watched != []


def test_a_process_of_its_own_names_the_first_entry_that_is_wrong(both_engines: sa.Engine) -> None:
    append(both_engines, [entry(number) for number in range(300)])
    execute(both_engines, "UPDATE audit_entries SET kind = 'gap' WHERE leaf_index IN (200, 250)")

    with pytest.raises(EvidenceBroken, match="column kind of entry 200") as broken:
        Verification(both_engines, workers=2, worth_it=0).run()

    assert broken.value.index == 200


def test_more_than_a_block_is_verified(both_engines: sa.Engine) -> None:
    """The blocks are laid side by side, and what is wrong in the second is found in it."""
    for start in range(0, BLOCK + 300, 4096):
        stop = min(start + 4096, BLOCK + 300)
        append(both_engines, [entry(number) for number in range(start, stop)])
    stops = [BLOCK - 1, BLOCK, BLOCK + 1, BLOCK + 256]
    run = Verification(both_engines, stops=stops)
    assert run.run() == Log(both_engines).head()
    assert [run.roots[size] for size in stops] == [Log(both_engines).root_at(s) for s in stops]

    execute(
        both_engines,
        "UPDATE audit_nodes SET hash = :hash WHERE level = 8 AND position = 256",
        hash=bytes(32),
    )
    with pytest.raises(EvidenceBroken, match=f"entries {BLOCK} to {BLOCK + 256}"):
        verify(both_engines)


TEXTS = st.text(max_size=20) | st.sampled_from(
    ['"index":', '"time":"', '\\"time\\":\\"', '"index":0,"kind":"ban",', 'Z","v":2}']
)
KINDS = st.sampled_from(["ban", "issuance", "gap"])


@settings(max_examples=25)
@given(st.lists(st.tuples(KINDS, TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS)), max_size=9))
def test_no_text_in_an_entry_misleads(
    texts: list[tuple[str, str, str, dict[str, Json]]],
) -> None:
    """What is compared without parsing is the entry's own index, kind and time."""
    with TemporaryDirectory() as directory, sqlite_engine(Path(directory)) as engine:
        time = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
        nested: dict[str, Json] = {
            "index": 0,
            "kind": "read",
            "time": "2020-01-01T00:00:00Z",
            "v": 2,
        }
        entries = [
            Entry(time, kind, "done", actor, reason=reason, details={**details, **nested})
            for kind, actor, reason, details in texts
        ]
        append(engine, entries)

        assert verify(engine).size == len(entries)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"index": 1}, "says that it is 1"),
        ({"kind": "gap"}, "column kind"),
        ({"time": "2026-11-01T12:00:01.123457Z"}, "column time"),
        ({"time": "yesterday"}, "is no entry"),
        ({"time": 5}, "is no entry"),
        ({"index": "0"}, "says that it is 0"),
        ({"v": 3, "index": None}, "says that it is None"),
    ],
)
def test_a_body_that_says_something_else_is_named(
    both_engines: sa.Engine, changes: dict[str, object], said: str
) -> None:
    append(both_engines, [entry(0)])
    _, body = body_of(entry(0), 0, "00")
    changed = orjson.dumps({**orjson.loads(body), **changes}, option=orjson.OPT_SORT_KEYS)
    execute(
        both_engines,
        "UPDATE audit_entries SET body = :body, leaf_hash = :leaf",
        body=changed.decode(),
        leaf=leaf_hash(changed),
    )
    rebuild_tree(both_engines)

    with pytest.raises(EvidenceBroken, match=said):
        verify(both_engines)


@pytest.mark.parametrize("kind", ["issuance", "log_key"])
def test_a_column_that_spells_more_of_the_body_is_named(both_engines: sa.Engine, kind: str) -> None:
    """No query finds an entry of such a kind, and no verifier would heed its key."""
    append(both_engines, [entry(0), entry(1, kind=kind, namespace="shop")])
    execute(
        both_engines,
        "UPDATE audit_entries SET kind = :kind WHERE leaf_index = 1",
        kind=f'{kind}","namespace":"shop',
    )
    with pytest.raises(EvidenceBroken, match="column kind of entry 1") as broken:
        verify(both_engines)
    assert broken.value.index == 1


def test_a_column_of_bytes_is_named(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, [entry(0)])
        execute(engine, "UPDATE audit_entries SET kind = CAST(kind AS BLOB)")
        with pytest.raises(EvidenceBroken, match="column kind of entry 0"):
            verify(engine)


_SQLITE_KEEPS_ANYTHING = [
    *(
        (f"time = {value}", "column time of entry 0")
        for value in ("'soon'", "9e40", "-9e15", "1e18", "x'00'")
    ),
    *(
        (f"body = NULL, leaf_hash = {value}", "entry 0 has neither a body nor a hash")
        for value in ("'soon'", "x'00'", "7")
    ),
]


@pytest.mark.parametrize(("change", "said"), _SQLITE_KEEPS_ANYTHING)
def test_a_column_of_another_type_is_named(tmp_path: Path, change: str, said: str) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, [entry(0)])
        execute(engine, f"UPDATE audit_entries SET {change}")  # noqa: S608
        with pytest.raises(EvidenceBroken, match=said):
            verify(engine)


def test_a_body_that_is_no_json_is_named(both_engines: sa.Engine) -> None:
    append(both_engines, [entry(0)])
    for text in ("", "[]", "{}", "nothing", '"index":0,"kind":"issuance","time":"'):
        execute(
            both_engines,
            "UPDATE audit_entries SET body = :body, leaf_hash = :leaf",
            body=text,
            leaf=leaf_hash(text.encode()),
        )
        rebuild_tree(both_engines)
        with pytest.raises(EvidenceBroken, match="is no entry"):
            verify(both_engines)


def test_times_without_and_with_a_fraction_are_read(both_engines: sa.Engine) -> None:
    times = [
        datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC),
        datetime(2026, 11, 1, 12, 0, 0, 1, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2262, 1, 1, 0, 0, 0, 999999, tzinfo=UTC),
    ]
    append(both_engines, [Entry(time, "ban", "done") for time in times])

    assert verify(both_engines).size == 4
    with both_engines.connect() as connection:
        kept = connection.execute(sa.select(audit_entries.c.time).order_by("leaf_index"))
        assert [row[0] for row in kept] == [microseconds(time) for time in times]
