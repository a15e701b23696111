"""Who is at the other end of the admin socket: the kernel's word, never a header.

The credentials are read from the connection when it is made (SO_PEERCRED) and travel in the ASGI
scope's state. Admitted are root and the user the server runs as; everybody else is refused before
anything of the request is looked at.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from meshca.logs import get_logger

_CREDENTIALS = struct.Struct("3i")
_KEY = "peer"

log = get_logger("admin")


@dataclass(frozen=True, slots=True)
class Peer:
    """A local process that connected: its process, user and group, as the kernel knew them then."""

    pid: int
    uid: int
    gid: int

    @property
    def actor(self) -> str:
        """Return how the audit log calls it."""
        return f"uid:{self.uid}"


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that takes the peer's credentials before any byte is read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Remember who connected."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _KEY: _credentials(transport)}


def _credentials(transport: asyncio.Transport) -> Peer | None:
    connection = transport.get_extra_info("socket")
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except (AttributeError, OSError):
        return None
    return Peer(*_CREDENTIALS.unpack(packed))


def get_peer(scope: Scope) -> Peer:
    """Return who sent the request; raises LookupError when the door did not say."""
    state: dict[str, Any] = scope.get("state", {})
    peer = state.get(_KEY)
    if not isinstance(peer, Peer):
        raise LookupError("the connection's peer is not known")
    return peer


@dataclass(frozen=True, slots=True)
class OnlyAdmitted:
    """ASGI: lets the users in `uids` through and answers everybody else with 403."""

    app: ASGIApp
    uids: frozenset[int]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http":
            return
        try:
            peer = get_peer(scope)
        except LookupError:
            peer = None
        if peer is None or peer.uid not in self.uids:
            log.warning("admin_refused", uid=peer.uid if peer else None, path=scope["path"][:100])
            message = "only root and the user that the server runs as may use this socket"
            error = {"code": "permission_denied", "message": message, "problems": []}
            await JSONResponse({"error": error}, 403)(scope, receive, send)
            return
        await self.app(scope, receive, send)
