"""Revocation lists on PostgreSQL: several replicas with one key, and changes they hear of."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from ca.revocation.crl_store import CRLS_CHANGED
from ca.revocation.store import REVOCATIONS_CHANGED
from meshca.change_feed import ChangeFeed
from meshca.clock import SystemClock
from meshca.database import open_engine
from meshca.schema import migrate
from tests.ca.lists_world import World, authority_now, replica, running, serials, until
from tests.stores import postgresql

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    with postgresql() as server:
        engine = open_engine(server.url)
        try:
            migrate(engine)
            yield engine
        finally:
            engine.dispose()


def test_replicas_that_share_a_key_agree_on_one_list_after_another(engine: sa.Engine) -> None:
    told: dict[int, set[bytes]] = {}

    async def story() -> None:
        authority, clock = authority_now(), SystemClock()
        async with contextlib.AsyncExitStack() as stack:
            worlds: list[World] = []
            for _ in range(3):
                world = await stack.enter_async_context(replica(engine, authority, clock=clock))
                worlds.append(world)
                feed = ChangeFeed(engine)
                feed.subscribe(REVOCATIONS_CHANGED, world.state.heed)
                feed.subscribe(CRLS_CHANGED, world.lists.heed)
                note(world)
                for loop in (feed.run, world.state.run):
                    task = asyncio.create_task(loop())
                    stack.callback(task.cancel)
            await asyncio.gather(*(world.lists.ensure(authority) for world in worlds))
            assert {world.number() for world in worlds} == {1}
            for world in worlds:
                await stack.enter_async_context(running(world))
            for first in range(1, 10, 3):
                await asyncio.gather(*(w.revoke(first + n) for n, w in enumerate(worlds)))
            await until(lambda: len({w.crl().number for w in worlds}) == 1, "one number")
            await until(lambda: all(len(serials(w.crl())) == 9 for w in worlds), "all nine")
            assert [world.lists.problems for world in worlds] == [{}] * 3

    def note(world: World) -> None:
        def tell() -> None:
            for crl in world.lists.current().values():
                told.setdefault(crl.number, set()).add(crl.der)

        world.lists.subscribe(tell)

    asyncio.run(story())

    assert {number: len(ders) for number, ders in told.items()} == dict.fromkeys(told, 1)
