"""Three certificates of three nodes, for tests of revoking and banning."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from tests.ca.revocation.world import (
    WHO,
    World,
    intent,
    issue,
    revoking,
)

HOUR = timedelta(hours=1)


GOOD = Reason.keyCompromise


HOLD = Reason.certificateHold


def play(engine: sa.Engine, story: Callable[[World], Awaitable[None]], **changes: Any) -> None:
    """Run `story` with a process, and three certificates of three nodes on record."""

    async def scene() -> None:
        async with revoking(engine, **changes) as world:
            issue(
                engine,
                *(
                    intent(f"a{n}", world.clock, node=f"node-{n}", token_id=f"token-{n}")
                    for n in (1, 2, 3)
                ),
            )
            await story(world)

    asyncio.run(scene())


async def revoke(world: World, reason: Reason = GOOD, /, **said: str) -> Any:
    return await world.operations.revoke(Selector(**said), reason, **WHO)
