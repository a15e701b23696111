"""The relay's side of an admin door: the same door, rules and credentials as of every command.

A token is read for each request, and a certificate again once its files change: both are renewed
while the console is open. A client that is no longer current is closed when its last answer ends.
What a server, or a balancer in front of it, would have us keep as a cookie is not kept.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
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
        async with self._current() as client:
            request = client.build_request(
                method,
                self._url(raw_path),
                headers={**headers, b"accept-encoding": b"identity", **self._proof()},
                content=body or None,
            )
            response = await client.send(request, stream=True)
            try:
                yield response
            finally:
                await response.aclose()

    async def aclose(self) -> None:
        """Close the connections; of what is still under way when it ends."""
        held, self._held = self._held, None
        await self._close_unused(held)

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

    @asynccontextmanager
    async def _current(self) -> AsyncIterator[httpx.AsyncClient]:
        """Hold the client of the files as they are now: nobody closes it before we are done.

        It has its user before anything is awaited. While the last one is closed another may come,
        find other files again, and see no users of this one.
        """
        before, held = self._held, self._latest()
        held.users += 1
        try:
            await self._close_unused(before)
            yield held.client
        finally:
            held.users -= 1
            await self._close_unused(held)

    def _latest(self) -> _Held:
        held, stamp = self._held, self._stamp()
        if held is None or held.stamp != stamp:
            self._held = held = _Held(self._open(), stamp)
        return held

    async def _close_unused(self, held: _Held | None) -> None:
        if held is not None and held is not self._held and not held.users:
            await held.client.aclose()

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
        none = CookieJar(policy=DefaultCookiePolicy(allowed_domains=()))
        return httpx.AsyncClient(
            transport=transport, timeout=waiting, cookies=none, trust_env=False
        )


def _version(path: Path | None) -> tuple[int, int, int]:
    try:
        status = None if path is None else path.stat()
    except OSError:
        status = None  # opening it says what is wrong
    return (0, 0, 0) if status is None else (status.st_ino, status.st_mtime_ns, status.st_size)
