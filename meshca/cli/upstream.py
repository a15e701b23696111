"""The relay's side of an admin door: the same door, rules and credentials as of every command.

A token is read for each request, and a certificate again once its files change: both are renewed
while the console is open. A client that is no longer current is closed when its last answer ends.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from meshca.cli.client import STREAM_TIMEOUT_SECONDS, TIMEOUT_SECONDS, AdminClient, Remote
from meshca.cli.failure import CommandFailed

MAXIMUM_REQUESTS: Final = 64
"""Requests under way at the server; one more waits."""

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(slots=True)
class _Held:
    client: httpx.AsyncClient
    stamp: _Stamp
    users: int = 0


@dataclass(slots=True)
class Upstream:
    """Asks the server that a command line would ask."""

    admin: AdminClient
    _held: _Held | None = field(default=None, repr=False)

    @asynccontextmanager
    async def stream(
        self, method: str, raw_path: bytes, headers: Mapping[bytes, bytes], body: bytes
    ) -> AsyncIterator[httpx.Response]:
        """Ask, with our credentials, for the duration of the answer; its body is not read.

        Raises CommandFailed for credentials that cannot be read, and httpx.HTTPError.
        """
        held = await self._current()
        held.users += 1
        try:
            request = held.client.build_request(
                method,
                self._url(raw_path),
                headers={**headers, b"accept-encoding": b"identity", **self._proof()},
                content=body or None,
            )
            response = await held.client.send(request, stream=True)
            try:
                yield response
            finally:
                await response.aclose()
        finally:
            held.users -= 1
            if held is not self._held and not held.users:
                await held.client.aclose()

    async def aclose(self) -> None:
        """Close the connections; nothing may be under way."""
        held, self._held = self._held, None
        if held is not None:
            await held.client.aclose()

    def unreachable(self, error: Exception) -> str:
        """Return a sentence that says what went wrong, and what to do."""
        where = f"the server at {self.admin.server}"
        if isinstance(error, CommandFailed):
            return f"{error}: mend that, and try again"
        if isinstance(error, httpx.ConnectError):
            is_remote = isinstance(self.admin.server, Remote)
            elsewhere = "see that it runs, and that --url and --ca are right"
            todo = elsewhere if is_remote else f"start it: {self.admin.start}"
            return f"{where} cannot be reached ({error}); {todo}"
        if isinstance(error, httpx.TimeoutException):
            return f"{where} did not answer in time; try again"
        return f"{where} broke off ({error}); try again"

    def _url(self, raw_path: bytes) -> httpx.URL:
        server = self.admin.server
        base = httpx.URL(server.url if isinstance(server, Remote) else "http://meshca")
        return base.copy_with(raw_path=base.raw_path.rstrip(b"/") + raw_path)

    def _proof(self) -> dict[bytes, bytes]:
        server = self.admin.server
        given = server.credentials.headers() if isinstance(server, Remote) else {}
        return {name.encode("ascii"): value.encode("ascii") for name, value in given.items()}

    async def _current(self) -> _Held:
        before, stamp = self._held, self._stamp()
        if before is not None and before.stamp == stamp:
            return before
        self._held = made = _Held(self._open(), stamp)
        if before is not None and not before.users:
            await before.client.aclose()
        return made

    def _stamp(self) -> _Stamp:
        """Return what changes when a file changes that a connection is made with."""
        server = self.admin.server
        if not isinstance(server, Remote):
            return ()
        given = server.credentials
        return tuple(_version(path) for path in (given.cert, given.key, given.ca))

    def _open(self) -> httpx.AsyncClient:
        """Return a client by the same rules as `AdminClient.open`."""
        server = self.admin.server
        limits = httpx.Limits(max_connections=MAXIMUM_REQUESTS)
        if isinstance(server, Remote):
            context = server.credentials.context()
            transport = httpx.AsyncHTTPTransport(verify=context, limits=limits)
        else:
            transport = httpx.AsyncHTTPTransport(uds=str(server), verify=False, limits=limits)
        waiting = httpx.Timeout(TIMEOUT_SECONDS, read=STREAM_TIMEOUT_SECONDS)
        return httpx.AsyncClient(transport=transport, timeout=waiting, trust_env=False)


def _version(path: Path | None) -> tuple[int, int, int]:
    try:
        status = None if path is None else path.stat()
    except OSError:
        status = None  # opening it says what is wrong
    return (0, 0, 0) if status is None else (status.st_ino, status.st_mtime_ns, status.st_size)
