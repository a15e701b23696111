"""A syslog collector that keeps what it is sent: TCP with octet counting, with or without TLS."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass
class Collector:
    """What was received, a message each; `port` is where it listens."""

    port: int = 0
    messages: list[bytes] = field(default_factory=list)

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read messages until the sender ends, then close, as collectors do."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                length = await reader.readuntil(b" ")
                self.messages.append(await reader.readexactly(int(length)))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def collector(
    context: ssl.SSLContext | None = None, *, port: int = 0
) -> AsyncIterator[Collector]:
    """Yield a collector that listens on `port`, or on one of its own."""
    kept = Collector()
    server = await asyncio.start_server(kept.receive, "127.0.0.1", port, ssl=context)
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield kept
    finally:
        server.close()
