"""A replica that is closed to all but one, for tests of break-glass policies and bypasses."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from authz.engine import decide
from tests.authz.builders import request
from tests.authz.staging.world import (
    ALICE,
    CLOSED,
    ORDERS,
    Replica,
    replica,
)
from tests.fakes import FakeClock
from tests.stores import sqlite_engine

ONCALL = "example.org/ns/ops/sa/oncall"


NAME = "shop/oncall"


Story = Callable[[Replica, FakeClock], Awaitable[None]]


def tell(directory: Path, story: Story, *, policies: Path | None = None) -> None:
    """Run `story` on a replica in which only `web` may call; ALICE applied that."""

    async def whole() -> None:
        clock = FakeClock()
        with sqlite_engine(directory) as engine:
            async with replica(engine, clock=clock, directory=policies) as one:
                await one.apply(CLOSED)
                await story(one, clock)

    asyncio.run(whole())


def oncall_passes(one: Replica) -> bool:
    asked = request(ONCALL, destination=ORDERS)
    return decide(one.policies, replace(asked, time=one.clock.now().timestamp())).allowed


async def requested(one: Replica, *, minutes: float = 30) -> str:
    bypass = await one.staging.emergencies.request_bypass(
        "shop",
        {"app": "orders"},
        lifetime=timedelta(minutes=minutes),
        actor=ALICE,
        reason="INC-7",
    )
    return bypass.name
