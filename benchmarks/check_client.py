"""A client process: ext_authz checks over a kept connection, as proxies make them."""

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import uvloop

from authz.providers import METHOD
from benchmarks import worker

_Calls = list[Any]


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
    """Ask at even times, whatever the answers take; latency counts from when it was due."""
    latencies = []
    beginning = time.perf_counter() + 0.1

    async def one(number: int) -> None:
        due = beginning + number / rate
        await asyncio.sleep(due - time.perf_counter())
        due = max(due, time.perf_counter())  # the client's own lateness is not the server's
        await call(requests[number % len(requests)], metadata=metadata)
        latencies.append(time.perf_counter() - due)

    for start in range(0, count, 1_000):
        await asyncio.gather(*(one(n) for n in range(start, min(start + 1_000, count))))
    latencies.sort()
    return {
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[len(latencies) * 99 // 100],
    }


if __name__ == "__main__":
    uvloop.run(main())
