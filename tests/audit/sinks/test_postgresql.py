"""Sinks and exports on PostgreSQL."""

import asyncio
from datetime import timedelta

import sqlalchemy as sa

from audit.log import Log
from audit.sinks.store import SINK_SINKS, Delivered, read_next
from meshca.metrics import Metrics
from meshca.name_locks import open_name_locks
from tests.audit.sinks.world import Kept, SinkWorld, drain
from tests.fakes import FakeClock
from tests.stores import SINKS, writer_of


def test_a_sink_goes_on_where_it_was_and_never_back(both_engines: sa.Engine) -> None:
    async def story() -> list[int]:
        clock, kept = FakeClock(), Kept()
        locks = open_name_locks(both_engines)
        try:
            async with writer_of(
                both_engines, clock=clock, sinks={**SINKS, **SINK_SINKS}
            ) as writer:
                world = SinkWorld(both_engines, writer, clock, locks, Metrics())
                await world.fill(520)
                await drain(world.feed(kept))
                await world.fill(2)
                await drain(world.feed(kept))
                clock.advance(timedelta(seconds=1))
                await writer.submit(Delivered("siem", 7, clock.now()))
        finally:
            await asyncio.to_thread(locks.close)
        return [stored.index for stored in kept.entries]

    assert asyncio.run(story()) == list(range(522))
    assert read_next(both_engines, "siem") == Log(both_engines).head().size == 522
