"""The relay of `meshca console`: what a browser here asks goes to the admin door with our proof.

Whoever reaches it can be what we are at the server, so it answers nothing that does not begin with
a secret that only its owner was told, compared in constant time; nothing under another name than
its own address (a name of somebody else may lead here, too: DNS rebinding); and nothing that a page
of another site asks for. Only the console and the API can be reached through it. The proof goes to
the server only, and of what a browser sends only what the API needs.

It keeps nothing: no cookie, no session, no answer.
"""

import asyncio
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote_to_bytes

import httpx
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from admin.console import HEADERS
from admin.cross_site import CrossSite, check_same_site, is_own, values
from admin.errors import LastResort, LimitedBody, error_response
from admin.serve import serve_tcp
from meshca.cli.failure import CommandFailed
from meshca.cli.upstream import Upstream

MAXIMUM_CONNECTIONS: Final = 64
SECRET_BYTES: Final = 32
_SENT_ON: Final = (b"accept", b"content-type", b"x-request-id")
_ALWAYS: Final[Mapping[bytes, bytes]] = {
    **{name.encode("ascii"): value.encode("ascii") for name, value in HEADERS.items()},
    b"cache-control": b"no-store",
}
_SENT_BACK: Final = (b"content-type", b"x-request-id", *_ALWAYS)
_METHODS: Final = ("GET", "POST")
_SEGMENT: Final = rb"(?:[\w.~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+"
_PATH: Final = re.compile(rb"/(?:console/(?:%s)?|v1(?:/%s)+)" % (_SEGMENT, _SEGMENT))
_QUERY: Final = re.compile(rb'[!"$-~]*')


def is_passed_on(path: bytes, query: bytes) -> bool:
    """Return whether a path, as it was sent, is one of the console or of the API.

    What it would be once decoded counts, too: no segment leads upwards or holds another.
    """
    if _PATH.fullmatch(path) is None or _QUERY.fullmatch(query) is None:
        return False
    return all(_is_plain(unquote_to_bytes(segment)) for segment in path.split(b"/"))


def _is_plain(segment: bytes) -> bool:
    return segment not in (b".", b"..") and all(
        byte >= 0x20 and byte != 0x7F and byte not in b"/\\%" for byte in segment
    )


@dataclass(slots=True)
class Relay:
    """ASGI: passes requests on to `upstream`; `address` is where it listens, as HOST:PORT."""

    upstream: Upstream
    address: str = ""
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(SECRET_BYTES), repr=False)
    _under_way: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    @property
    def url(self) -> str:
        """Return the console's address: whoever has it can use it."""
        return f"http://{self.address}/{self.secret}/console/"

    def hang_up(self) -> None:
        """Give up every answer that is under way."""
        for task in self._under_way:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> ASGIApp:
        """Return what answers."""
        path = self._below_secret(bytes(scope["raw_path"]))
        if path is None:
            return Response(status_code=404)
        origin = f"http://{self.address}".encode("ascii")
        if not is_own([origin], values(scope["headers"], b"host"), "http"):
            return _error(403, "wrong_host", f"this is {self.address}, and goes by no other name")
        try:
            check_same_site(scope["headers"], "http")
        except CrossSite as refused:
            return _error(403, refused.reason, refused.public_message)
        if path in (b"", b"/", b"/console"):
            return Response(status_code=307, headers={**HEADERS, "location": self.url})
        if not is_passed_on(path, scope["query_string"]):
            return _error(404, "not_found", "neither the console nor the API has this address")
        if scope["method"] not in _METHODS:
            return _error(405, "not_found", "GET and POST is all that there is")
        return LimitedBody(self._passing(path))

    def _below_secret(self, raw_path: bytes) -> bytes | None:
        """Return the path below the secret, None without it."""
        begin, secret, path = raw_path[:1], *_split(raw_path[1:])
        is_right = hmac.compare_digest(secret, self.secret.encode("ascii"))
        return path if is_right and begin == b"/" else None

    def _passing(self, path: bytes) -> ASGIApp:
        async def passing(scope: Scope, receive: Receive, send: Send) -> None:
            body = (await receive()).get("body", b"")
            asking = asyncio.create_task(self._ask(path, scope, body, send))
            leaving = asyncio.create_task(_left(receive))
            self._under_way.add(asking)
            try:
                await asyncio.wait({asking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._under_way.discard(asking)
                asking.cancel()
                leaving.cancel()
                await asyncio.wait({asking, leaving})
            if not asking.cancelled():
                asking.result()

        return passing

    async def _ask(self, path: bytes, scope: Scope, body: bytes, send: Send) -> None:
        """Pass on what the server answers, piece by piece as it comes."""
        query, is_begun = scope["query_string"], False
        raw_path = path + b"?" + query if query else path
        try:
            async with self.upstream.stream(
                scope["method"], raw_path, _sent_on(scope), body
            ) as answer:
                is_begun = True
                await send(
                    {
                        "type": "http.response.start",
                        "status": answer.status_code,
                        "headers": _sent_back(answer),
                    }
                )
                async for piece in answer.aiter_raw():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except (CommandFailed, httpx.HTTPError) as error:
            if is_begun:
                raise  # the browser sees it break off, as we did
            refusal = _error(502, "unreachable", self.upstream.unreachable(error))
            await refusal(scope, _nothing, send)


async def serve(
    upstream: Upstream, listen: str, *, opened: Callable[[str], None], stopping: asyncio.Event
) -> None:
    """Relay from `listen` until `stopping`; tell `opened` the console's address.

    Raises CannotListen.
    """
    relay = Relay(upstream)
    door = serve_tcp(LastResort(relay), listen, key="--listen", most=MAXIMUM_CONNECTIONS)
    async with aclosing(upstream), door as address:
        relay.address = address
        opened(relay.url)
        try:
            await stopping.wait()
        finally:
            relay.hang_up()


def _split(path: bytes) -> tuple[bytes, bytes]:
    """Return the first segment, and the rest with its slash."""
    end = path.find(b"/")
    return (path, b"") if end < 0 else (path[:end], path[end:])


def _sent_on(scope: Scope) -> Mapping[bytes, bytes]:
    return {name: value for name, value in scope["headers"] if name in _SENT_ON}


def _sent_back(answer: httpx.Response) -> list[tuple[bytes, bytes]]:
    said = {name.lower(): value for name, value in answer.headers.raw}
    return [*{**_ALWAYS, **{name: said[name] for name in _SENT_BACK if name in said}}.items()]


def _error(status: int, code: str, message: str) -> Response:
    response = error_response(status, code, message)
    response.raw_headers.extend(_ALWAYS.items())
    return response


async def _left(receive: Receive) -> None:
    """Return when the browser has gone, or has its answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _nothing() -> dict[str, str]:
    return {"type": "http.disconnect"}
