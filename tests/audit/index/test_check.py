"""Whether each segment of the index is what its entries make of it: what was forged is named."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.index.blocks import encode_block
from audit.index.building import LARGE, SMALL
from audit.index.check import check_index
from audit.index.tables import Opening, audit_postings, audit_segments, mark_for_rebuild
from audit.query import Query, count
from audit.tree import audit_entries
from tests.audit.index.world import append, entries, identity, index, segments
from tests.audit.tampering import execute
from tests.stores import sqlite_engine, writer_of


def problems(engine: sa.Engine) -> list[tuple[int, str]]:
    """Return the first entries of segments that are wrong, and what is."""
    return [(c.segment.first, c.problem) for c in check_index(engine) if c.problem]


def test_an_index_that_the_log_made_is_well(both_engines: sa.Engine) -> None:
    append(both_engines, entries(0, 2 * SMALL + 300))
    index(both_engines)
    assert len(list(check_index(both_engines))) == 2
    assert problems(both_engines) == []


def test_large_segments_are_well_too_and_lists_of_theirs_that_were_emptied_are_named(
    long_log: sa.Engine,
) -> None:
    append(long_log, entries(LARGE - 1, LARGE + SMALL))
    index(long_log)
    assert [s.entries for s in segments(long_log)] == [LARGE, SMALL]
    assert problems(long_log) == []
    execute(
        long_log,
        "UPDATE audit_postings SET lists = :none WHERE block = 1500",
        none=encode_block([], {}),
    )
    assert problems(long_log) == [(0, "its lists are not those of its entries")]


def test_text_where_a_segment_has_its_time_is_no_statement(tmp_path: Path) -> None:
    """SQLite keeps text in a column of numbers."""
    forged = "0 AND 0 UNION SELECT 0, 1, 'ban', x'00', 'forged' --"
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))
        index(engine)
        execute(engine, "UPDATE audit_segments SET minimum_time = :forged", forged=forged)
        with pytest.raises(ValueError, match="invalid literal"):
            count(engine, Query(serial="1", text="number"))


def without_an_identity(engine: sa.Engine) -> None:
    """Take every entry out of every list: nothing is found by anything."""
    execute(engine, "UPDATE audit_postings SET lists = :none", none=encode_block([], {}))
    assert count(engine, Query(spiffe_id=identity(0))).count == 0


def set_to(changes: str) -> Callable[[sa.Engine], None]:
    return lambda engine: execute(engine, f"UPDATE audit_segments SET {changes}")  # noqa: S608  # ours


def twice(engine: sa.Engine) -> None:
    execute(
        engine,
        "INSERT INTO audit_segments SELECT 7, first, entries, stage, redactions, minimum_time,"
        " maximum_time, times, named FROM audit_segments",
    )


def unreadable(engine: sa.Engine) -> None:
    execute(engine, "UPDATE audit_segments SET redactions = 1")
    execute(engine, "UPDATE audit_postings SET lists = :torn", torn=b"\xff\xff\xff\xffhalf")


LISTS, TIMES = "its lists are not", "its times are not"
FORGED: dict[str, tuple[Callable[[sa.Engine], None], str]] = {
    "lists": (without_an_identity, LISTS),
    "no block": (lambda e: execute(e, "DELETE FROM audit_postings WHERE block = 3"), LISTS),
    "last time": (set_to("minimum_time = maximum_time"), TIMES),
    "times": (set_to("times = '[1,2,1,2,1,2,1,2]'"), TIMES),
    "values": (set_to("named = '{}'"), "its values are not"),
    "other entries": (set_to("first = first + 1"), "there are no such entries"),
    "other size": (set_to("entries = 1000"), "there are no such entries"),
    "no json": (set_to("named = 'x'"), "it cannot be read"),
    "twice": (twice, "another segment has entries of it"),
    "torn block": (unreadable, "it cannot be read"),
}


@pytest.mark.parametrize(("forge", "problem"), FORGED.values(), ids=FORGED)
def test_what_somebody_forged_is_named_and_gone_once_it_is_built_again(
    tmp_path: Path, forge: Callable[[sa.Engine], None], problem: str
) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))
        index(engine)
        forge(engine)
        assert all(text.startswith(problem) for _, text in problems(engine))
        assert problems(engine)
        with engine.begin() as connection:
            connection.execute(audit_segments.delete())
            connection.execute(audit_postings.delete())
        index(engine)
        assert problems(engine) == []


def test_a_segment_in_which_was_redacted_may_know_more_but_never_less(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))
        index(engine)
        with engine.begin() as connection:
            blank = audit_entries.update().where(audit_entries.c.leaf_index == 5)
            connection.execute(blank.values(body=None))
            mark_for_rebuild(connection, 5, 1)
        assert problems(engine) == []
        without_an_identity(engine)
        assert problems(engine) == [(0, "its lists are not those of its entries")]


def test_a_redacted_entry_that_an_unmarked_segment_still_has_is_named(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))
        index(engine)
        execute(engine, "UPDATE audit_entries SET body = NULL WHERE leaf_index = 5")
        assert [first for first, _ in problems(engine)] == [0]


def test_segments_that_are_not_published_are_left_alone(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))

        async def story() -> None:
            async with writer_of(engine) as writer:
                await writer.submit(Opening(1, 0, SMALL))

        asyncio.run(story())
        assert list(check_index(engine)) == []
