"""A client process of the rotation figure: the app behind the called Envoy; always answers 200."""

import asyncio
from typing import Any

import uvloop

from benchmarks import worker

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"


class App(asyncio.Protocol):
    """Answers each request without a body; reads nothing of it but its end."""

    def connection_made(self, transport: Any) -> None:
        """Begin a connection."""
        self._transport: asyncio.Transport = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete."""
        *requests, self._read = (self._read + data).split(b"\r\n\r\n")
        self._transport.write(_ANSWER * len(requests))


async def main() -> None:
    """Listen until told otherwise."""
    loop = asyncio.get_running_loop()
    await loop.create_server(App, "127.0.0.1", worker.arguments()["port"])

    async def answer(_order: dict[str, Any]) -> dict[str, Any]:
        return {}

    await worker.obey(answer)


if __name__ == "__main__":
    uvloop.run(main())
