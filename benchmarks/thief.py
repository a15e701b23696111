"""A client process with a stolen certificate: when each of many proxies begins to refuse it.

`open` makes a connection to each and a first request, which must succeed. `watch` then asks on
these, and on new connections beside them, until both are refused everywhere; it answers with the
times of the first refusals by the wall clock, as the server says when it decided. What is seen is
late by up to one round: the pauses below. They are long enough not to be what is measured.
"""

import asyncio
import contextlib
import random
import ssl
from typing import Any, Final

import uvloop

from benchmarks import worker
from meshca.clock import SystemClock

OPEN_PAUSE: Final = 0.03
"""Every 10 ms were two thousand requests a second, each told to the server: most of the load."""
NEW_PAUSE: Final = (0.04, 0.12)
_TIMEOUT_SECONDS: Final = 60.0
_REFUSED: Final = 0
_REQUEST: Final = b"GET / HTTP/1.1\r\nhost: peer\r\n\r\n"


class Connection:
    """One TLS connection to a proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self) -> int:
        """Return the status of a request; 0 when the connection was ended instead."""
        try:
            self._writer.write(_REQUEST)
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        except (OSError, asyncio.IncompleteReadError):
            return _REFUSED
        _, _, length = head.partition(b"content-length:")
        await self._reader.readexactly(int(length.split(b"\r\n", 1)[0] or 0))
        return int(head.split(b" ", 2)[1])

    async def close(self) -> None:
        """Close it, whatever its state."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class Thief:
    """What it holds open, and how it comes again."""

    def __init__(self, roots: str) -> None:
        self._roots = roots
        self._draw = random.Random(1)  # noqa: S311  # spreads attempts, no secret
        self._tls = ssl.create_default_context()
        self._open: dict[int, Connection] = {}

    async def open(self, certificate: str, ports: list[int]) -> dict[str, Any]:
        """Connect to each port with the certificate and key in a file; return the statuses."""
        self._tls = ssl.create_default_context(cafile=self._roots)
        self._tls.check_hostname = False
        self._tls.load_cert_chain(certificate)
        self._open = {port: await self._connect(port) for port in ports}
        return {"statuses": [await connection.ask() for connection in self._open.values()]}

    async def watch(self) -> dict[str, Any]:
        """Return when each was refused first: on its open connection, and on a new one."""
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            watched = (self._watch_open(connection) for connection in self._open.values())
            renewed = (self._watch_new(port) for port in self._open)
            requests, handshakes = await asyncio.gather(
                asyncio.gather(*watched), asyncio.gather(*renewed)
            )
        for connection in self._open.values():
            await connection.close()
        return {"requests": requests, "handshakes": handshakes}

    async def _watch_open(self, connection: Connection) -> float:
        while await connection.ask() == 200:
            await asyncio.sleep(OPEN_PAUSE)
        return SystemClock().now().timestamp()

    async def _watch_new(self, port: int) -> float:
        while True:
            await asyncio.sleep(self._draw.uniform(*NEW_PAUSE))
            if await self._try(port) == _REFUSED:
                return SystemClock().now().timestamp()

    async def _try(self, port: int) -> int:
        """Return the status over a connection of its own; 0 when TLS was refused."""
        try:
            connection = await self._connect(port)
        except OSError:
            return _REFUSED
        try:
            return await connection.ask()
        finally:
            await connection.close()

    async def _connect(self, port: int) -> Connection:
        return Connection(*await asyncio.open_connection("127.0.0.1", port, ssl=self._tls))


async def main() -> None:
    """Do as told: `open` a certificate's connections, then `watch` them end."""
    thief = Thief(worker.arguments()["roots"])

    async def answer(order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "open":
            return await thief.open(order["certificate"], order["ports"])
        return await thief.watch()

    await worker.obey(answer)


if __name__ == "__main__":
    uvloop.run(main())
