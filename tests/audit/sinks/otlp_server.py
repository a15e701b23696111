"""A receiver of OTLP logs over HTTP: it parses what it is sent with the definitions of others.

Those are xds-protos', of an earlier version of the protocol; field numbers never change.
"""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2

Judge = Callable[[list[Any]], tuple[int, bytes]]


def accept(_records: list[Any]) -> tuple[int, bytes]:
    """Take everything."""
    return 200, b""


@dataclass
class Receiver:
    """What was taken; `judge` returns status and body for the records of a request."""

    judge: Judge = accept
    port: int = 0
    records: list[Any] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    requests: int = 0
    connections: "set[asyncio.Task[None]]" = field(default_factory=set)

    @property
    def bodies(self) -> list[str]:
        """Return the bodies that were taken, in their order."""
        return [record.body.string_value for record in self.records]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        self.connections.add(asyncio.current_task())  # type: ignore[arg-type]  # there is one
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(re.findall(r"(?i)content-length: (\d+)", head)[0])
                status, answer = self.receive(head, await reader.readexactly(length))
                writer.write(
                    b"HTTP/1.1 %d x\r\ncontent-type: application/x-protobuf\r\n"
                    b"content-length: %d\r\n\r\n%s" % (status, len(answer), answer)
                )
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def receive(self, head: str, body: bytes) -> tuple[int, bytes]:
        """Judge one request, and keep what is taken."""
        self.requests += 1
        first, *lines = head.strip().split("\r\n")
        assert first == "POST /v1/logs HTTP/1.1"
        self.headers.append({k.lower(): v for k, v in (line.split(": ", 1) for line in lines)})
        parse = logs_service_pb2.ExportLogsServiceRequest.FromString  # type: ignore[attr-defined]  # has no annotations
        request = parse(body)
        (resource,) = request.resource_logs
        (scope,) = resource.instrumentation_library_logs  # the older name of scope_logs
        status, answer = self.judge(list(scope.logs))
        if status == 200:
            self.records += scope.logs
            told = {a.key: a.value.string_value for a in resource.resource.attributes}
            self.resources.append(told)
        return status, answer


@contextlib.asynccontextmanager
async def receiver(
    judge: Judge = accept, context: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[Receiver]:
    """Yield a receiver that listens on 127.0.0.1."""
    kept = Receiver(judge)
    server = await asyncio.start_server(kept.serve, "127.0.0.1", port, ssl=context)
    kept.port = server.sockets[0].getsockname()[1]
    try:
        yield kept
    finally:
        server.close()
        await asyncio.gather(*kept.connections)
