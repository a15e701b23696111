"""A client process of several figures: requests over kept connections, one after the other.

It counts what an app would notice: answers that are not 200, and connections that break. An order
{"requests": N, "seconds": S} runs until both are reached.
"""

import asyncio
import re
import time
from collections import Counter
from typing import Any

import uvloop

from benchmarks import worker

CONNECTIONS = 16
_REQUEST = b"GET /items HTTP/1.1\r\nHost: orders\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Load:
    """One run: where to, until when, and what was seen."""

    def __init__(self, port: int, request: bytes, requests: int, seconds: float) -> None:
        self._port = port
        self._request = request
        self._requests = requests
        self._ends_at = time.monotonic() + seconds
        self.answers: Counter[str] = Counter()

    @property
    def _is_over(self) -> bool:
        return self.answers.total() >= self._requests and time.monotonic() >= self._ends_at

    async def run(self) -> None:
        """Keep every connection busy until the end."""
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(self._keep_busy())

    async def _keep_busy(self) -> None:
        while not self._is_over:
            try:
                await self._one_connection()
            except (OSError, EOFError, asyncio.LimitOverrunError) as error:
                self.answers[f"socket: {type(error).__name__}"] += 1

    async def _one_connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while not self._is_over:
                writer.write(self._request)
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                await reader.readexactly(int(length[1]) if length else 0)
                self.answers[head[9:12].decode()] += 1
        finally:
            writer.close()


async def main() -> None:
    """Run as told."""
    given = worker.arguments()
    request = given.get("request", "").encode("latin-1") or _REQUEST

    async def answer(order: dict[str, Any]) -> dict[str, Any]:
        load = Load(given["port"], request, order["requests"], order["seconds"])
        started = time.perf_counter()
        await load.run()
        return {"answers": dict(load.answers), "seconds": time.perf_counter() - started}

    await worker.obey(answer)


if __name__ == "__main__":
    uvloop.run(main())
