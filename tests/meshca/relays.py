"""A relay of `meshca console` as its tests run it: real sockets, and whoever stands behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import httpx

from meshca.cli.client import AdminClient, Remote
from meshca.cli.relay import serve
from meshca.cli.upstream import Upstream
from tests.admin.world import World, running

START: Final = "meshca serve --config x.yaml"
HERE: Final = "127.0.0.1:0"


@asynccontextmanager
async def relaying(server: Path | Remote, listen: str = HERE) -> AsyncIterator[str]:
    """Run a relay to `server`; yield the console's address."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stopping = asyncio.Event()
    upstream = Upstream(AdminClient(server, START))
    serving = asyncio.create_task(
        serve(upstream, listen, opened=told.set_result, stopping=stopping)
    )
    try:
        async with asyncio.timeout(20):
            console = await told
        yield console
    finally:
        stopping.set()
        await serving


Story = Callable[[World, str, httpx.AsyncClient], Awaitable[None]]


def play(tmp_path: Path, story: Story, listen: str = HERE) -> None:
    """Run `story` with a world, the console's address behind a relay to it, and a browser."""

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(running(tmp_path))
            console = await stack.enter_async_context(relaying(world.socket, listen))
            browser = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            await story(world, console, browser)

    asyncio.run(scene())


def api(console: str, path: str) -> str:
    """Return the address of the API beside the console's."""
    return console.removesuffix("console/") + "v1/" + path
