"""A running service and its collector: what is recorded arrives, also after both were away."""

import asyncio
import contextlib
from pathlib import Path

import orjson

from meshca.demo.ports import free_port
from tests.audit.sinks.otlp_server import Receiver, receiver
from tests.end_to_end.server import RunningServer


def indexes(received: Receiver) -> list[int]:
    return [orjson.loads(body)["index"] for body in received.bodies]


async def wait_for(received: Receiver, kind: str) -> None:
    """Wait until an entry of `kind` has come."""
    async with asyncio.timeout(60):
        while not any(orjson.loads(body)["kind"] == kind for body in received.bodies):
            await asyncio.sleep(0.05)


def test_a_collector_gets_all_of_it_over_an_outage_and_a_restart(tmp_path: Path) -> None:
    port = free_port()
    sink = {"name": "siem", "otlp": {"url": f"http://127.0.0.1:{port}/v1/logs"}}
    server = RunningServer(tmp_path, settings={"audit": {"sinks": [sink]}})

    async def story() -> tuple[list[int], int]:
        async with receiver(port=port) as received:
            await asyncio.to_thread(server.make)
            await asyncio.to_thread(server.start)
            await wait_for(received, "server_start")
        before = indexes(received)
        await asyncio.to_thread(server.meshca, "audit", "query")  # nobody listens to this read
        await asyncio.to_thread(server.stop)
        async with receiver(port=port) as received:
            await asyncio.to_thread(server.start)
            await wait_for(received, "server_stop")
        return list(dict.fromkeys([*before, *indexes(received)])), len(before)

    with contextlib.ExitStack() as stack:
        stack.push(server)
        seen, before = asyncio.run(story())
    assert seen == list(range(len(seen)))
    assert len(seen) > before > 0
