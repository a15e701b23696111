"""What the database did not take is counted by what it was, and the log says so afterwards."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from audit.entry import Entry
from audit.gaps import Gaps
from audit.log import EntrySink, Log
from meshca.database import GroupWriter
from meshca.errors import Overloaded
from meshca.metrics import Metrics
from tests.audit.test_log import entry
from tests.fakes import FakeClock
from tests.stores import sqlite_engine


@dataclass
class Breakable:
    """The log's sink, which refuses everything while `broken`."""

    real: EntrySink
    broken: bool = False

    def write(self, connection: sa.Connection, records: Any) -> None:
        """Write, or fail as a full disk does."""
        if self.broken:
            raise sa.exc.OperationalError("insert", {}, Exception("the disk is full"))
        self.real.write(connection, records)


@dataclass
class World:
    """A writer whose losses become gaps."""

    clock: FakeClock
    metrics: Metrics
    engine: sa.Engine
    sink: Breakable
    writer: GroupWriter
    gaps: Gaps

    def logged(self) -> list[dict[str, Any]]:
        """Return every entry of the log."""
        return [each.document() or {} for each in Log(self.engine).entries()]

    def lost(self, what: str) -> float:
        """Return what the metric says."""
        labels = {"what": what}
        return self.metrics.registry.get_sample_value("meshca_audit_lost_total", labels) or 0.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world on a database of its own."""
    with made(tmp_path) as world:
        yield world


@contextmanager
def made(directory: Path, **options: Any) -> Iterator[World]:
    """Yield a world; `options` are those of its writer."""
    clock, metrics, sink = FakeClock(), Metrics(), Breakable(EntrySink())
    with sqlite_engine(directory) as engine:
        writer = GroupWriter(engine, {Entry: sink}, clock, metrics, **options)
        gaps = Gaps(writer, clock, metrics)
        writer.on_lost = gaps.lost
        yield World(clock, metrics, engine, sink, writer, gaps)


def test_an_entry_that_nobody_waits_for_and_the_database_refuses_becomes_a_gap(
    world: World,
) -> None:
    async def story() -> None:
        async with world.writer:
            world.sink.broken = True
            world.writer.enqueue(entry(1, kind="refusal"), entry(2, kind="issuance"))
            world.writer.note(entry(3, kind="refusal"))
            await world.writer.submit()  # what was noted before it has been tried
            await world.gaps.flush()
            world.clock.advance(timedelta(minutes=1))
            world.sink.broken = False
            await world.gaps.flush()
            await world.gaps.flush()

    asyncio.run(story())
    (gap,) = world.logged()
    assert (gap["kind"], gap["reason"]) == ("gap", "not_written")
    assert gap["details"] == {
        "what": "entry",
        "unrecorded": 3,
        "by_reason": {"issuance": 1, "refusal": 2},
        "since": "2026-11-01T12:00:00+00:00",
    }
    assert (world.lost("refusal"), world.lost("issuance")) == (2, 1)


def test_what_is_submitted_is_told_to_who_submits_it_and_is_no_gap(world: World) -> None:
    async def story() -> None:
        async with world.writer:
            world.sink.broken = True
            with pytest.raises(Exception, match="the disk is full"):
                await world.writer.submit(entry(1))
            world.sink.broken = False
            await world.gaps.flush()

    asyncio.run(story())
    assert world.logged() == []


def test_what_finds_no_room_to_wait_becomes_a_gap(tmp_path: Path) -> None:
    with made(tmp_path, maximum_pending=2) as world:

        async def story() -> None:
            async with world.writer:
                for number in range(5):
                    world.writer.note(entry(number, kind="refusal"))
                with pytest.raises(Overloaded):
                    world.writer.enqueue(entry(9))
                await asyncio.sleep(0)
            async with world.writer:
                await world.gaps.flush()

        asyncio.run(story())
        *kept, gap = world.logged()
        assert len(kept) == 2
        assert gap["details"]["by_reason"] == {"refusal": 3}


def test_other_records_count_by_their_type(world: World) -> None:
    async def story() -> None:
        async with world.writer:
            world.gaps.lost([object(), object()])
            world.gaps.lose("policy_change")
            await world.gaps.flush()

    asyncio.run(story())
    (gap,) = world.logged()
    assert gap["details"]["by_reason"] == {"object": 2, "policy_change": 1}
