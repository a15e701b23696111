"""Steps at two replicas on PostgreSQL: none is taken twice, and each is heard of at once."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest
import sqlalchemy as sa

from authz.staging.events import read_events
from meshca.clock import SystemClock
from meshca.database import open_engine
from meshca.errors import Conflict, NotFound
from meshca.schema import migrate
from tests.authz.staging.test_replicas import running, until
from tests.authz.staging.world import ALICE, BOB, CLOSED, ITEMS, OPEN, replica
from tests.stores import postgresql

ROUNDS = 10


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[sa.Engine, sa.Engine]]:
    with postgresql() as server:
        one, two = open_engine(server.url), open_engine(server.url)
        try:
            migrate(one)
            yield one, two
        finally:
            one.dispose()
            two.dispose()


def test_of_two_steps_at_once_one_is_taken(engines: tuple[sa.Engine, sa.Engine]) -> None:
    async def story() -> None:
        async with replica(engines[0]) as one, replica(engines[1], name="two") as two:
            await one.apply(OPEN)
            for _ in range(ROUNDS):
                outcomes = await asyncio.gather(
                    one.staging.changes.stage(CLOSED, author=ALICE, reason="mine"),
                    two.staging.changes.stage(CLOSED, author=BOB, reason="mine"),
                    return_exceptions=True,
                )
                failed = [o for o in outcomes if isinstance(o, BaseException)]
                assert [type(error) for error in failed] == [Conflict]
                outcomes = await asyncio.gather(
                    one.staging.changes.withdraw(actor=ALICE, reason="no"),
                    two.staging.changes.withdraw(actor=BOB, reason="no"),
                    return_exceptions=True,
                )
                failed = [o for o in outcomes if isinstance(o, BaseException)]
                assert len(failed) == 1
                assert isinstance(failed[0], Conflict | NotFound)
        assert len(read_events(engines[0])) == 2 * ROUNDS

    asyncio.run(story())


def test_a_canary_at_one_is_a_canary_at_the_other_in_no_time(
    engines: tuple[sa.Engine, sa.Engine],
) -> None:
    async def story() -> None:
        clock = SystemClock()
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(replica(engines[0], clock=clock))
            two = await stack.enter_async_context(replica(engines[1], clock=clock, name="two"))
            if not one.decide(to=ITEMS).allowed:
                await one.apply(OPEN)
            for each in (one, two):
                await stack.enter_async_context(running(each))
            await until(lambda: two.decide(to=ITEMS).allowed)
            await one.staging.changes.stage(CLOSED, author=ALICE, reason="x")
            began = clock.monotonic()
            await one.staging.changes.promote(actor=BOB, reason="x", namespaces=["stock"])
            await until(lambda: not two.decide(to=ITEMS).allowed)
            assert clock.monotonic() - began < 2.0

    asyncio.run(story())
