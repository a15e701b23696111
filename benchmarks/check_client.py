"""A client process: ext_authz checks over a kept connection, as proxies make them."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop

from authz.providers import METHOD
from benchmarks import worker

LONGEST_DEBT = 2.0
"""How many checks that fell due meanwhile the client asks at once after it was held up."""


async def main() -> None:
    """Prepare the requests, then ask as often, and as fast, as told."""
    given = worker.arguments()
    requests = [bytes.fromhex(line) for line in Path(given["requests"]).read_text().split()]
    metadata = (("authorization", f"Bearer {given['token']}"), ("x-meshca-labels", given["labels"]))

    async def answer(order: dict[str, Any]) -> dict[str, Any]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{order['port']}") as channel:
            call: Any = channel.unary_unary(METHOD)
            await call(requests[0], metadata=metadata)
            if "rate" in order:
                return await _at_rate(call, requests, metadata, order["rate"], order["count"])
            return await _crowd(call, requests, metadata, order["count"], order["in_flight"])

    await worker.obey(answer)


async def _crowd(
    call: Any, requests: list[bytes], metadata: Any, count: int, in_flight: int
) -> dict[str, Any]:
    numbers = iter(range(count))

    async def one_of_many() -> None:
        for number in numbers:
            await call(requests[number % len(requests)], metadata=metadata)

    started = time.perf_counter()
    await asyncio.gather(*(one_of_many() for _ in range(in_flight)))
    return {"seconds": time.perf_counter() - started}


async def _at_rate(
    call: Any, requests: list[bytes], metadata: Any, rate: float, count: int
) -> dict[str, Any]:
    """Ask at even times, whatever the answers take; latency counts from when it was asked.

    A client that was held up itself does not make up for it by asking many at once: that it did
    so would be its own doing, and the answers' lateness, too.
    """
    latencies: list[float] = []
    asked = set()

    async def one(number: int) -> None:
        started = time.perf_counter()
        await call(requests[number % len(requests)], metadata=metadata)
        latencies.append(time.perf_counter() - started)

    due = started = time.perf_counter()
    for number in range(count):
        due = max(due + 1 / rate, time.perf_counter() - LONGEST_DEBT / rate)
        await asyncio.sleep(due - time.perf_counter())
        task = asyncio.create_task(one(number))
        asked.add(task)
        task.add_done_callback(asked.discard)
    seconds = time.perf_counter() - started
    await asyncio.gather(*asked)
    latencies.sort()
    return {
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[len(latencies) * 99 // 100],
        "rate": count / seconds,
    }


if __name__ == "__main__":
    uvloop.run(main())
