"""Two replicas on one database, for tests of what they do together."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from meshca.change_feed import ChangeFeed
from rotation.intermediates import Intermediates
from rotation.replicas import REPLICAS_CHANGED
from rotation.standings import AUTHORITIES_CHANGED
from tests.fakes import FakeClock
from tests.sds.conftest import Mesh, running

LOOK = 5.0


@dataclass
class Two:
    """Two replicas: what proxies see of each, and its authorities."""

    clock: FakeClock
    mesh_a: Mesh
    mesh_b: Mesh
    a: Intermediates
    b: Intermediates

    async def both_look(self, times: int = 2) -> None:
        """Let each look again, as it does every five seconds and when it hears of a change."""
        for _ in range(times):
            self.clock.advance(timedelta(seconds=31))
            await self.a.tick()
            await self.b.tick()


Story = Callable[[Two], Awaitable[None]]


def play(two: Two, story: Story) -> None:
    """Run `story` with both loaded; `a` leads."""

    async def scene() -> None:
        async with running(two.mesh_a), running(two.mesh_b):
            await two.a.load()
            await two.b.load()
            await two.both_look(1)
            await story(two)

    asyncio.run(scene())


@contextlib.asynccontextmanager
async def hearing(replica: Intermediates) -> AsyncIterator[None]:
    """Run what wiring runs to hear of changes."""
    feed = ChangeFeed(replica.standings.engine)
    for kind in (AUTHORITIES_CHANGED, REPLICAS_CHANGED):
        feed.subscribe(kind, replica.heed)
    await feed.look()
    loops = [asyncio.create_task(loop()) for loop in (feed.run, replica.run_bars, replica.run)]
    try:
        yield
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
