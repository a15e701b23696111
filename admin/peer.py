"""Who is at the other end of a connection: the kernel's word, or what TLS saw; never a header.

On the unix socket the credentials are read when the connection is made (SO_PEERCRED). Over TLS the
certificates are kept that the client showed; OpenSSL has verified that it holds the key and that
they chain to a root we had. Both travel in the ASGI scope's state, which no request can write.
"""

import asyncio
import socket
import struct
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from cryptography import x509
from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from admin.connections import PatientProtocol, origin
from admin.visitor import Visitor, get_visitor
from identity.caller import Caller
from meshca.logs import get_logger

MAXIMUM_CONNECTIONS: Final = 512
MAXIMUM_CONNECTIONS_OF_ONE: Final = 64
"""Connections over TLS from one IPv4 address, or one IPv6 network /64."""

_CREDENTIALS = struct.Struct("3i")
_PEER, _TLS = "peer", "tls"
_DER: Final = 2  # _ssl.ENCODING_DER

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


@dataclass(slots=True)
class TlsPeer:
    """The other end of a TLS connection: its address, and the chain that it showed, if any.

    `caller` is the workload that the chain proves, once somebody has asked, and `verified_at` when
    (monotonic); `greeted` are those who have logged in over this connection.
    """

    address: str
    chain: tuple[x509.Certificate, ...] = ()
    caller: Caller | None = None
    verified_at: float = 0.0
    greeted: set[str] = field(default_factory=set)


class PeerProtocol(H11Protocol):
    """HTTP/1.1 that takes the peer's credentials before any byte is read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Remember who connected."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _PEER: _credentials(transport)}


class TlsProtocol(PatientProtocol):
    """HTTP/1.1 that keeps what TLS saw; one connection too many is hung up on before it can ask."""

    most: ClassVar[int] = MAXIMUM_CONNECTIONS
    most_of_one: ClassVar[int] = MAXIMUM_CONNECTIONS_OF_ONE

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Remember who connected, or hang up."""
        super().connection_made(transport)
        self.limit_concurrency = None  # uvicorn's bound answers 503 and keeps the connection
        host, port = (self.client or ("", 0))[:2]
        self.origin = origin(host)
        if self._is_one_too_many():
            log.warning("connection_refused", origin=self.origin, open=len(self.connections))
            transport.abort()
            return
        peer = TlsPeer(f"{host}:{port}", _chain(transport))
        self.app_state = {**self.app_state, _TLS: peer}

    def _is_one_too_many(self) -> bool:
        """Return whether this one, which is among them already, is over a bound."""
        of_one = sum(getattr(each, "origin", None) == self.origin for each in self.connections)
        return len(self.connections) > self.most or of_one > self.most_of_one


def _credentials(transport: asyncio.Transport) -> Peer | None:
    connection = transport.get_extra_info("socket")
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except (AttributeError, OSError):
        return None
    return Peer(*_CREDENTIALS.unpack(packed))


def _chain(transport: asyncio.Transport) -> tuple[x509.Certificate, ...]:
    """Return what the client showed, leaf first, and what OpenSSL completed it with, less the root.

    Nothing if that cannot be read. Python has public names for it from 3.13 on; what they call is
    here since 3.10.
    """
    connection = transport.get_extra_info("ssl_object")
    try:
        shown = connection._sslobj.get_unverified_chain() or ()
        verified = (connection._sslobj.get_verified_chain() or ()) if shown else ()
        known = [*shown, *verified[:-1]]
        ders = dict.fromkeys(bytes(each.public_bytes(_DER)) for each in known if each is not None)
        return tuple(x509.load_der_x509_certificate(der) for der in ders)
    except (AttributeError, ValueError) as error:
        log.warning("client_chain_not_read", error=type(error).__name__)
        return ()


def local_peer(scope: Scope) -> Peer:
    """Return the local process that sent the request; raises LookupError for any other."""
    state: dict[str, Any] = scope.get("state", {})
    peer = state.get(_PEER)
    if not isinstance(peer, Peer):
        raise LookupError("the connection's peer is not known")
    return peer


def tls_peer(scope: Scope) -> TlsPeer:
    """Return the other end of the TLS connection; raises LookupError for any other connection."""
    state: dict[str, Any] = scope.get("state", {})
    peer = state.get(_TLS)
    if not isinstance(peer, TlsPeer):
        raise LookupError("the request did not come over TLS")
    return peer


def get_peer(scope: Scope) -> Visitor:
    """Return who sent the request, attested; raises LookupError when the door did not say."""
    return get_visitor(scope)
