"""A clock that is behind the log is told, once for each step."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from audit.clock_watch import AGAIN_SECONDS, ClockWatch
from audit.log import Log
from meshca.database import GroupWriter
from tests.audit.test_log import entry
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

Story = Callable[[ClockWatch, FakeClock, GroupWriter], Awaitable[None]]
A_MINUTE = timedelta(minutes=1)


def told(directory: Path, story: Story) -> list[dict[str, Any]]:
    """Run `story`, and return the entries about the clock."""

    async def run(engine: sa.Engine) -> None:
        clock = FakeClock()
        async with writer_of(engine, clock=clock) as writer:
            watch = ClockWatch(engine=engine, writer=writer, clock=clock, replica="one")
            await story(watch, clock, writer)

    with sqlite_engine(directory) as engine:
        asyncio.run(run(engine))
        logged = [stored.document() or {} for stored in Log(engine).entries()]
    return [each for each in logged if each["kind"] == "clock"]


def test_a_clock_that_is_set_back_is_told_with_how_far(tmp_path: Path) -> None:
    async def story(watch: ClockWatch, clock: FakeClock, writer: GroupWriter) -> None:
        await writer.submit(entry(1, time=clock.now()), entry(2, time=clock.now() - A_MINUTE))
        clock.jump(-A_MINUTE)
        for _ in range(3):
            await watch.look()
            clock.advance(timedelta(seconds=1))

    (found,) = told(tmp_path, story)
    assert (found["outcome"], found["reason"]) == ("failed", "behind_the_log")
    assert found["details"] == {
        "behind_milliseconds": 60_000,
        "newest_index": 0,
        "newest_time": "2026-11-01T12:00:00+00:00",
        "replica": "one",
    }


def test_a_clock_that_agrees_within_a_second_is_not_told(tmp_path: Path) -> None:
    async def story(watch: ClockWatch, clock: FakeClock, writer: GroupWriter) -> None:
        await watch.look()
        await writer.submit(entry(1, time=clock.now()))
        clock.jump(-timedelta(seconds=1))
        await watch.look()

    assert told(tmp_path, story) == []


def test_each_further_step_is_told(tmp_path: Path) -> None:
    async def story(watch: ClockWatch, clock: FakeClock, writer: GroupWriter) -> None:
        await writer.submit(entry(1, time=clock.now()))
        for _ in range(2):
            clock.jump(-A_MINUTE)
            await watch.look()

    found = told(tmp_path, story)
    assert [each["details"]["behind_milliseconds"] for each in found] == [60_000, 120_000]


def test_a_clock_that_stays_behind_another_is_told_now_and_then(tmp_path: Path) -> None:
    async def story(watch: ClockWatch, clock: FakeClock, writer: GroupWriter) -> None:
        for _ in range(3):
            await writer.submit(entry(1, time=clock.now() + A_MINUTE))
            await watch.look()
            clock.advance(timedelta(seconds=AGAIN_SECONDS / 2))

    assert len(told(tmp_path, story)) == 2
