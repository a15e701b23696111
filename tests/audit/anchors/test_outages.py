"""Each adapter down for an hour and back: told once, alarmed, and then it has the newest."""

import asyncio
from datetime import timedelta
from pathlib import Path

from audit.anchors.anchor import Anchor
from audit.anchors.file import FileAnchor
from audit.anchors.syslog import SyslogAnchor
from audit.syslog import SyslogTarget
from meshca.demo.ports import free_port
from tests.audit.anchors.test_witness_client import client, keys_of, served
from tests.audit.anchors.world import EVERY, Anchored, anchored
from tests.audit.signed_log import ORIGIN
from tests.audit.syslog_server import collector
from tests.stores import sqlite_engine

HOUR = timedelta(hours=1)


async def an_hour_without(world: Anchored, anchor: Anchor) -> None:
    """Let an hour pass in which `anchor` is away, and the log grows."""
    world.anchors = [anchor]
    world.restart()
    await world.grow()
    await world.pass_time(HOUR / 2)
    await world.grow()
    await world.pass_time(HOUR / 2)
    assert [entry["reason"] for entry in world.told()] == ["unreachable"]
    assert (world.measured("behind_seconds", anchor.name) or 0) > 3000
    assert world.state(anchor.name).failures > 55


async def back(world: Anchored, anchor: Anchor) -> int:
    """Let `anchor` be visited, and return how many entries it holds then."""
    await world.pass_time(EVERY * 2)
    assert [entry["reason"] for entry in world.told()] == ["unreachable", "well_again"]
    assert world.measured("behind_seconds", anchor.name) == 0
    size = world.state(anchor.name).size
    assert size >= world.signed.kept()[0].size - 1  # an entry about it may have come since
    return size


def test_a_file_whose_volume_is_away(tmp_path: Path) -> None:
    async def story() -> None:
        anchor = FileAnchor(tmp_path / "volume" / "anchor.notes", ORIGIN)
        with sqlite_engine(tmp_path) as engine:
            async with anchored(engine, tmp_path) as world:
                await an_hour_without(world, anchor)
                anchor.path.parent.mkdir()
                size = await back(world, anchor)
                held = await anchor.newest()
                assert held is not None
                assert held.checkpoint.size == size

    asyncio.run(story())


def test_a_collector_that_is_away(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with anchored(engine, tmp_path) as world:
                target = SyslogTarget("tcp", "127.0.0.1", free_port())
                anchor = SyslogAnchor(target=target, host="ca-1", clock=world.signed.clock)
                await an_hour_without(world, anchor)
                async with collector(port=target.port) as kept:
                    size = await back(world, anchor)
                    assert f'"size": {size}'.encode() in kept.messages[-1]

    asyncio.run(story())


def test_a_witness_that_is_away(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with anchored(engine, tmp_path) as world:
                anchor = client(world.signed, f"http://127.0.0.1:{free_port()}")
                await an_hour_without(world, anchor)
                clock, keys = world.signed.clock, keys_of(world.signed)
                async with served(tmp_path / "w", clock, *keys) as url:
                    anchor.url = url
                    size = await back(world, anchor)
                    cosigned = [k for k in world.signed.kept() if anchor.key.name in k.note]
                    assert cosigned[0].size == size

    asyncio.run(story())
