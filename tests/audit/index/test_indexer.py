"""The index follows the log, and comes out right whatever happens in between."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.index.building import LARGE, SMALL
from audit.index.indexer import NAME, Indexer
from audit.index.tables import (
    Blocks,
    Opening,
    Publication,
    Removal,
    Stage,
    audit_postings,
    audit_segments,
    mark_for_rebuild,
)
from audit.log import Log
from audit.query import Query, count, find
from audit.tree import audit_entries
from meshca.errors import Conflict, EvidenceBroken, StoreUnavailable
from meshca.metrics import Metrics
from meshca.name_locks import FileLocks
from tests.audit.index.world import append, entries, index, ranges, segments
from tests.stores import sqlite_engine, writer_of

SIZE = 2 * SMALL + 300


def lag(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("meshca_audit_index_lag_entries")


def indexes(engine: sa.Engine, **filters: str) -> list[int]:
    return [found.index for found in find(engine, Query(**filters, limit=1_000))]  # type: ignore[arg-type]  # text only


def test_it_follows_the_log_and_says_how_far_it_is_behind(both_engines: sa.Engine) -> None:
    metrics = Metrics()
    append(both_engines, entries(0, SMALL - 1))
    index(both_engines, metrics=metrics)
    assert (ranges(both_engines), lag(metrics)) == ([], SMALL - 1)
    append(both_engines, entries(SMALL - 1, SIZE))
    index(both_engines, metrics=metrics)
    assert ranges(both_engines) == [(0, SMALL), (SMALL, SMALL)]
    assert lag(metrics) == 300
    assert indexes(both_engines, serial="3") == [2]
    assert indexes(both_engines, serial=f"{SIZE:x}") == [SIZE - 1]


def test_small_segments_become_a_large_one(long_log: sa.Engine) -> None:
    assert len(segments(long_log)) == LARGE // SMALL - 1
    before = count(long_log, Query(namespace="team-3")).count
    append(long_log, entries(LARGE - 1, LARGE + SMALL))
    index(long_log)
    assert ranges(long_log) == [(0, LARGE), (LARGE, SMALL)]
    assert count(long_log, Query(namespace="team-3")).count > before
    assert indexes(long_log, serial=f"{LARGE - 5:x}") == [LARGE - 6]
    with long_log.connect() as connection:
        assert not _segments_of_postings(connection) - {s.id for s in segments(long_log)}


def _segments_of_postings(connection: sa.Connection) -> set[int]:
    return set(connection.execute(sa.select(audit_postings.c.segment).distinct()).scalars())


def test_one_replica_keeps_it_and_the_next_goes_on_where_it_ended(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SIZE))
        holder, other = FileLocks(tmp_path / "meshca.db"), FileLocks(tmp_path / "meshca.db")
        assert holder.hold(NAME)
        metrics = Metrics()
        index(engine, other, metrics)
        assert (ranges(engine), lag(metrics)) == ([], SIZE)
        holder.close()
        index(engine, other, metrics)
        assert (len(ranges(engine)), lag(metrics)) == (2, 300)
        other.close()


def test_what_a_kill_left_half_written_is_written_again(both_engines: sa.Engine) -> None:
    append(both_engines, entries(0, SIZE))

    async def begun() -> None:
        async with writer_of(both_engines) as writer:
            await writer.submit(Opening(1, 0, SMALL))
            await writer.submit(Blocks(1, 0, [b"half", b"of it"]))

    asyncio.run(begun())
    assert indexes(both_engines, serial="3") == [2]
    index(both_engines)
    assert ranges(both_engines) == [(0, SMALL), (SMALL, SMALL)]
    assert all(segment.stage is Stage.published for segment in segments(both_engines))
    assert indexes(both_engines, serial="3") == [2]


def _redact(engine: sa.Engine, first: int, count: int) -> None:
    """Take the bodies away, as retention does."""
    with (
        engine.connect().execution_options(meshca_writes=True) as connection,
        connection.begin(),
    ):
        c = audit_entries.c
        blank = audit_entries.update().where(c.leaf_index.between(first, first + count - 1))
        connection.execute(blank.values(body=None))
        mark_for_rebuild(connection, first, count)


def test_what_is_redacted_is_not_found_at_once_and_then_not_even_indexed(
    both_engines: sa.Engine,
) -> None:
    append(both_engines, entries(0, SIZE))
    index(both_engines)
    kind = find(both_engines, Query(serial="3"))[0].body["kind"]
    everything, of_kind = (count(both_engines, q).count for q in (Query(), Query(kind=kind)))
    _redact(both_engines, 2, 1)
    with both_engines.connect() as connection:
        stale = connection.execute(sa.select(sa.func.sum(audit_segments.c.redactions))).scalar()
    assert stale == 1
    assert indexes(both_engines, serial="3") == []
    assert count(both_engines, Query(serial="3")).count == 0
    index(both_engines)
    assert [s.redactions for s in segments(both_engines)] == [0, 0]
    assert count(both_engines, Query(serial="3")).count == 0
    assert count(both_engines, Query()).count == everything
    assert count(both_engines, Query(kind=kind)).count == of_kind
    left = next(f for f in find(both_engines, Query(oldest_first=True)) if f.index == 2)
    assert left.body == {"index": 2, "kind": kind, "redacted": True, "time": left.body["time"]}


@pytest.mark.parametrize("garbage", ["{", "[]", "\x00"])
def test_an_entry_that_was_garbled_hides_no_other(tmp_path: Path, garbage: str) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SIZE))
        with engine.begin() as connection:
            c = audit_entries.c
            connection.execute(audit_entries.update().where(c.leaf_index == 5).values(body=garbage))
        index(engine)
        assert len(ranges(engine)) == 2
        assert indexes(engine, serial="3") == [2]
        with pytest.raises(EvidenceBroken, match="entry 5"):
            find(engine, Query(oldest_first=True))


def test_a_large_segment_is_built_again_at_its_size(long_log: sa.Engine) -> None:
    append(long_log, entries(LARGE - 1, LARGE))
    with long_log.begin() as connection:
        connection.execute(audit_segments.delete())
        connection.execute(audit_postings.delete())
    index(long_log)
    assert ranges(long_log) == [(0, LARGE)]
    _redact(long_log, 10, 20)
    index(long_log)
    assert (ranges(long_log), segments(long_log)[0].redactions) == ([(0, LARGE)], 0)
    assert indexes(long_log, serial="e") == []
    assert indexes(long_log, serial="ff") == [254]


def test_a_segment_in_which_was_redacted_while_it_was_made_is_not_published(
    tmp_path: Path,
) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))

        async def story() -> None:
            async with writer_of(engine) as writer:
                await writer.submit(Opening(1, 0, SMALL))
                _redact(engine, 2, 1)
                with pytest.raises(Conflict, match="redacted meanwhile"):
                    await writer.submit(Publication(Opening(1, 0, SMALL), [0, 0], {}))

        asyncio.run(story())
        assert [segment.stage for segment in segments(engine)] == [Stage.opened]
        index(engine)
        assert ranges(engine) == [(0, SMALL)]
        assert count(engine, Query(serial="3")).count == 0


def test_a_segment_is_published_as_it_was_opened_and_alone(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, 2 * SMALL))
        ours, theirs = Opening(7, 0, SMALL), Opening(7, SMALL, SMALL)

        async def story() -> None:
            async with writer_of(engine) as writer:
                await writer.submit(ours)
                await writer.submit(Removal([7]))  # another replica keeps the index by now
                with pytest.raises(Conflict, match="was removed"):
                    await writer.submit(Blocks(7, 0, [b"late"]))
                await writer.submit(theirs)
                with pytest.raises(Conflict, match="was removed"):
                    await writer.submit(Publication(ours, [0, 0], {}))
                await writer.submit(Publication(theirs, [0, 0], {}), Opening(8, SMALL, SMALL))
                with pytest.raises(Conflict, match="has entries of segment 8 already"):
                    await writer.submit(Publication(Opening(8, SMALL, SMALL), [0, 0], {}))

        asyncio.run(story())
        assert [s.id for s in segments(engine) if s.stage is Stage.published] == [7]


@dataclass
class LostSoon(FileLocks):
    """Locks that another process has after the first look."""

    looks: int = 0

    def hold(self, name: str) -> bool:
        """Take the name once."""
        self.looks += 1
        return self.looks == 1


def test_who_lost_the_name_meanwhile_publishes_nothing(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))
        with pytest.raises(Conflict, match="another replica"):
            index(engine, LostSoon(tmp_path / "meshca.db"))
        begun = segments(engine)
        assert [segment.stage for segment in begun] == [Stage.opened]
        index(engine)
        assert ranges(engine) == [(0, SMALL)]
        assert segments(engine)[0].id != begun[0].id


def test_an_entry_that_was_changed_does_not_hide_by_that(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))
        index(engine)
        change = 'UPDATE audit_entries SET body = replace(body, \'"serial":"6"\', \'"serial":"7"\')'
        with engine.begin() as connection:
            connection.exec_driver_sql(f"{change} WHERE leaf_index = 5")
        with pytest.raises(EvidenceBroken, match="entry 5"):
            find(engine, Query(serial="6"))


def test_a_segment_that_changed_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SMALL))
        index(engine)
        before = segments(engine)
        _redact(engine, 2, 1)

        async def story() -> None:
            async with writer_of(engine) as writer:
                await writer.submit(Opening(2, 0, SMALL))
                with pytest.raises(Conflict, match="is not what it was"):
                    await writer.submit(Publication(Opening(2, 0, SMALL), [0, 0], {}, before))

        asyncio.run(story())
        assert [s.id for s in segments(engine) if s.stage is Stage.published] == [before[0].id]


def test_a_block_that_somebody_deleted_hides_nothing_and_is_made_again(long_log: sa.Engine) -> None:
    third = segments(long_log)[2].id
    with long_log.begin() as connection:
        connection.execute(audit_postings.delete().where(audit_postings.c.segment == third))
    wanted = 2 * SMALL + 7
    assert indexes(long_log, serial=f"{wanted + 1:x}") == [wanted]
    assert count(long_log, Query(serial=f"{wanted + 1:x}")).count == 1
    append(long_log, entries(LARGE - 1, LARGE))
    index(long_log)
    assert ranges(long_log) == [(0, LARGE)]
    assert indexes(long_log, serial=f"{wanted + 1:x}") == [wanted]


def test_an_index_that_was_dropped_is_built_again(both_engines: sa.Engine) -> None:
    append(both_engines, entries(0, SIZE))
    index(both_engines)
    with both_engines.begin() as connection:
        connection.execute(audit_postings.delete())
        connection.execute(audit_segments.delete())
    assert indexes(both_engines, serial="3") == [2]
    index(both_engines)
    assert len(ranges(both_engines)) == 2
    assert indexes(both_engines, serial="3") == [2]


@dataclass
class AbsentAtFirst(FileLocks):
    """Locks of a database that does not answer for a while."""

    absent: int = 3

    def hold(self, name: str) -> bool:
        """Take the name, once the database answers."""
        self.absent -= 1
        if self.absent >= 0:
            raise StoreUnavailable("the database does not answer")
        return FileLocks.hold(self, name)


def test_a_database_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        locks, metrics = AbsentAtFirst(tmp_path / "meshca.db"), Metrics()
        async with writer_of(engine) as writer:
            indexer = Indexer(
                log=Log(engine), writer=writer, locks=locks, metrics=metrics, look_seconds=0.01
            )
            running = asyncio.create_task(indexer.run())
            async with asyncio.timeout(60):
                while lag(metrics) != 300:
                    assert not running.done()
                    await asyncio.sleep(0.01)
            running.cancel()
        assert locks.absent < 0
        locks.close()

    with sqlite_engine(tmp_path) as engine:
        append(engine, entries(0, SIZE))
        asyncio.run(story(engine))
