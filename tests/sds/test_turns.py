"""What is large leaves a few streams at a time, and who does not read holds up nobody for long."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from ca.revocation.view import RevocationView
from sds.resources import EXTENSION_TYPE
from sds.turns import LARGE, Turns
from tests.sds.conftest import Mesh, running
from tests.sds.proxy import Proxy

MANY = RevocationView(revoked={"s": frozenset(f"{n:064x}" for n in range(LARGE // 64))})


@contextlib.asynccontextmanager
async def asking(mesh: Mesh, turns: Turns, count: int) -> AsyncIterator[list[Proxy]]:
    """Give proxies that ask for the same large resource; the first has its turn already."""
    mesh.view = MANY
    mesh.doors.shared.turns = turns
    async with running(mesh), contextlib.AsyncExitStack() as stack:
        proxies = []
        for number in range(count):
            proxy = Proxy(mesh.doors, token=f"shop/web/web-{number}", service="ecds")
            proxies.append(await stack.enter_async_context(proxy))
            proxy.subscribe("revoked", type_url=EXTENSION_TYPE)
            async with asyncio.timeout(5):
                while not any(each.resources for each in mesh.ledger.connected()):
                    await asyncio.sleep(0)
        yield proxies


def test_one_waits_until_the_other_has_read(mesh: Mesh) -> None:
    async def story() -> None:
        async with asking(mesh, Turns(at_once=1, patience_seconds=60), 2) as (first, second):
            assert await second.is_quiet()
            assert await first.receive()
            assert await second.receive()

    asyncio.run(story())


def test_one_that_does_not_read_is_not_waited_for_for_ever(mesh: Mesh) -> None:
    async def story() -> None:
        async with asking(mesh, Turns(at_once=1, patience_seconds=0.2), 3) as (_, *others):
            for each in others:
                assert await each.receive()

    asyncio.run(story())


def test_what_is_small_waits_for_nobody(mesh: Mesh) -> None:
    async def story() -> None:
        async with (
            asking(mesh, Turns(at_once=1, patience_seconds=60), 1),
            Proxy(mesh.doors, token="shop/cart/cart-1") as small,
        ):
            small.subscribe("ROOTCA")
            assert await small.receive()

    asyncio.run(story())


def test_a_turn_is_given_back_once() -> None:
    async def story() -> None:
        turns = Turns(at_once=1, patience_seconds=0.2)
        async with turns.turn():
            await asyncio.sleep(0.3)  # longer than the patience
        async with turns.turn():
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01), turns.turn():
                    pass

    asyncio.run(story())
