"""Feeding collectors: in order, at least once, over outages, restarts and refusals."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from audit.log import Stored
from audit.sinks.feed import LONGEST_WAIT_SECONDS, BatchRefused
from audit.sinks.store import Delivered, read_next
from meshca.errors import StoreUnavailable, Unavailable
from meshca.name_locks import open_name_locks
from tests.audit.sinks.world import Kept, SinkWorld, drain, lost_by_siem, sink_world


def story(directory: Path, told: Any) -> Any:
    """Run `told(world)` and return what it returns."""

    async def run() -> Any:
        async with sink_world(directory) as world:
            return await told(world)

    return asyncio.run(run())


def test_everything_comes_in_order_and_once(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = Kept()
        await world.fill(1_203)
        feed = world.feed(kept)
        await drain(feed)
        await world.fill(2)
        await drain(feed)
        assert [stored.index for stored in kept.entries] == list(range(1_205))
        assert kept.entries == list(world.log.entries())
        assert (world.next(), world.metric("delivered_total")) == (1_205, 1_205.0)
        assert (world.metric("behind_entries"), world.metric("lag_seconds")) == (0, 0)

    story(tmp_path, told)


def test_an_outage_of_an_hour_and_a_restart_lose_nothing(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = Kept()
        await world.fill(700)
        feed = world.feed(kept)
        assert await feed.step() == 0
        waits = []
        for _ in range(60):
            kept.troubles = [Unavailable("connection refused")]
            waits.append(await feed.step())
            await world.fill(1)
            world.clock.advance(timedelta(minutes=1))
        assert all(1 <= wait <= LONGEST_WAIT_SECONDS for wait in waits)
        assert max(waits) > 8
        assert world.metric("failures_total") == 60
        assert world.metric("behind_entries") == 259
        assert world.metric("lag_seconds") >= 50 * 60
        again = world.feed(kept)  # the process was started anew
        await drain(again)
        assert [stored.index for stored in kept.entries] == list(range(760))
        assert world.metric("behind_entries") == 0

    story(tmp_path, told)


def test_what_was_taken_and_not_confirmed_comes_again(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = Kept()

        class Dies(Kept):
            async def take(self, entries: Sequence[Stored]) -> int:
                await kept.take(entries)
                raise asyncio.CancelledError  # the process ends before the cursor moves

        await world.fill(3)
        with pytest.raises(asyncio.CancelledError):
            await world.feed(Dies()).step()
        await drain(world.feed(kept))
        assert [stored.index for stored in kept.entries] == [0, 1, 2, 0, 1, 2]

    story(tmp_path, told)


def test_appending_does_not_wait_for_a_collector_that_hangs(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        class Hangs:
            async def take(self, _entries: Sequence[Stored]) -> int:
                await asyncio.Event().wait()
                raise AssertionError

        await world.fill(1)
        task = asyncio.create_task(world.feed(Hangs()).run())
        async with asyncio.timeout(30):
            while world.metric("behind_entries") == 0:
                await asyncio.sleep(0)
            await world.fill(500)
        assert world.log.head().size == 501
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    story(tmp_path, told)


def test_one_replica_feeds_a_sink(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        first, second, kept = open_name_locks(world.engine), open_name_locks(world.engine), Kept()
        await world.fill(3)
        await drain(world.feed(kept, locks=first))
        await world.fill(1)
        other = world.feed(kept, locks=second)
        assert await other.step() > 0
        assert len(kept.entries) == 3
        first.close()
        await drain(other)
        assert [stored.index for stored in kept.entries] == [0, 1, 2, 3]

    story(tmp_path, told)


class TakesAtMost(Kept):
    """Refuses batches of more than `most`, and the entries `never`."""

    most = 100
    never: frozenset[int] = frozenset()

    async def take(self, entries: Sequence[Stored]) -> int:
        refused = [e.index for e in entries if e.index in self.never and e.body is not None]
        if len(entries) > self.most or refused:
            raise BatchRefused(f"413: {len(entries)} entries")
        return await Kept.take(self, entries)


def test_a_batch_that_is_too_large_becomes_smaller(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = TakesAtMost()
        await world.fill(600)
        await drain(world.feed(kept))
        assert [stored.index for stored in kept.entries] == list(range(600))
        assert world.metric("lost_total") == 0

    story(tmp_path, told)


def test_an_entry_that_is_never_taken_goes_without_its_body_and_is_a_gap(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = TakesAtMost()
        kept.never = frozenset({4})
        await world.fill(9)
        await drain(world.feed(kept))
        assert [stored.index for stored in kept.entries] == list(range(10))
        assert [stored.index for stored in kept.entries if stored.body is None] == [4]
        gap = world.log.get([9])[0].document() or {}
        assert (gap["kind"], gap["reason"]) == ("gap", "sink_refused")
        assert gap["details"] == lost_by_siem(1, first=4, last=4)
        assert (world.metric("lost_total"), world.metric("delivered_total")) == (1, 9)

    story(tmp_path, told)


def test_a_collector_that_takes_nothing_makes_no_gaps_but_waits(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = TakesAtMost()
        kept.most = 0
        await world.fill(3)
        feed = world.feed(kept)
        for _ in range(20):
            await feed.step()
        assert (world.next(), world.log.head().size) == (0, 3)
        assert world.metric("lost_total") == 0
        assert world.metric("failures_total") > 10
        kept.most = 100
        await drain(feed)
        assert len(kept.entries) == 3

    story(tmp_path, told)


def test_what_a_collector_throws_away_is_a_gap(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        class ThrowsAway(Kept):
            async def take(self, entries: Sequence[Stored]) -> int:
                await Kept.take(self, entries)
                return 2 if len(entries) == 5 else 0

        await world.fill(5)
        await drain(world.feed(ThrowsAway()))
        gap = world.log.get([5])[0].document() or {}
        assert gap["details"] == lost_by_siem(2, first=0, last=4)
        assert world.metric("lost_total") == 2

    story(tmp_path, told)


def test_redacted_entries_are_delivered_as_what_is_left(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = Kept()
        await world.fill(2)
        with world.engine.connect().execution_options(meshca_writes=True) as c, c.begin():
            c.exec_driver_sql("UPDATE audit_entries SET body = NULL WHERE leaf_index = 0")
        await drain(world.feed(kept))
        assert [stored.body is None for stored in kept.entries] == [True, False]

    story(tmp_path, told)


def test_a_sink_may_begin_now(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = Kept()
        await world.fill(3)
        feed = world.feed(kept, begins="now")
        await drain(feed)
        await world.fill(2)
        await drain(world.feed(kept, begins="now"))
        assert [stored.index for stored in kept.entries] == [3, 4]

    story(tmp_path, told)


def test_a_database_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        kept = Kept()
        kept.troubles = [StoreUnavailable("the database does not answer")]
        await world.fill(1)
        assert await world.feed(kept).step() >= 1

    story(tmp_path, told)


def test_a_cursor_never_goes_back(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> None:
        for number in (5, 3):
            await world.writer.submit(Delivered("siem", number, world.clock.now()))
        assert read_next(world.engine, "siem") == 5
        assert read_next(world.engine, "other") is None

    story(tmp_path, told)
