"""A mesh with loaded intermediates, for tests of roots and taints."""

import asyncio
from collections.abc import Awaitable, Callable

from rotation.intermediates import Intermediates
from tests.rotation.root_steps import (
    intermediates_of,
)
from tests.sds.conftest import Mesh, running

Story = Callable[[Intermediates], Awaitable[None]]


def play(mesh: Mesh, story: Story) -> None:
    """Run `story` with loaded intermediates."""

    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh)
            await intermediates.load()
            await story(intermediates)

    asyncio.run(scene())
