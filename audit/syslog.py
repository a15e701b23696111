"""Syslog to a collector: messages of RFC 5424, over TLS, TCP, UDP, or a local unix socket.

Streams are framed by octet counting (RFC 5425 4.3, RFC 6587 3.4.1), so that a message may hold a
newline. A message's text here is ASCII or UTF-8 with a byte-order mark (RFC 5424 6.4). Names in
the header that the RFC does not allow are replaced, never sent.

Syslog acknowledges nothing. Over TCP and TLS, `send` returns once the collector has closed its
side after ours: it has read everything, though not written it down. Over UDP nobody knows.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from meshca.errors import Unavailable

Transport = Literal["tls", "tcp", "udp", "unix"]

SECURITY: Final = 13  # facility "log audit", RFC 5424 6.2.1
NOTICE: Final = 5
TOTAL_SECONDS: Final = 10.0
MAXIMUM_DATAGRAM: Final = 60_000
_MAXIMUM_READS: Final = 16
_REFUSAL_SECONDS: Final = 0.5
_HEADER: Final = re.compile(r"[^\x21-\x7e]")
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SyslogTarget:
    """A collector: HOST and port, or with `unix` the path of a datagram socket as `host`.

    With a `context` it is TLS, which verifies the collector by `server_name` (its host, if empty).
    """

    transport: Transport
    host: str
    port: int = 0
    context: ssl.SSLContext | None = None
    server_name: str = ""

    def __str__(self) -> str:
        place = self.host if self.transport == "unix" else f"{self.host}:{self.port}"
        return f"{self.transport}:{place}"


def syslog_message(
    text: str,
    *,
    time: datetime,
    host: str,
    message_id: str,
    application: str = "meshca",
    facility: int = SECURITY,
    severity: int = NOTICE,
) -> bytes:
    """Return one message; names are clipped to what RFC 5424 6 allows."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    names = f"{_name(host, 255)} {_name(application, 48)} - {_name(message_id, 32)}"
    head = f"<{facility * 8 + severity}>1 {stamp} {names} - "
    body = text.encode("ascii") if text.isascii() else _BOM + text.encode("utf-8", "replace")
    return head.encode("ascii") + body


def framed(message: bytes) -> bytes:
    """Return `message` as a stream carries it."""
    return b"%d %s" % (len(message), message)


async def send(
    target: SyslogTarget, messages: Sequence[bytes], *, total_seconds: float = TOTAL_SECONDS
) -> None:
    """Send `messages` over a connection of their own; raises Unavailable."""
    streams = target.transport in ("tcp", "tls")
    sending = _send_stream if streams else _send_datagrams
    try:
        async with asyncio.timeout(total_seconds):
            await asyncio.to_thread(sending, target, messages, total_seconds)
    except TimeoutError as error:
        raise Unavailable(f"syslog {target}: not taken within {total_seconds:g} s") from error
    except (OSError, ValueError) as error:
        raise Unavailable(f"syslog {target}: {str(error) or type(error).__name__}") from error


def _send_stream(target: SyslogTarget, messages: Sequence[bytes], seconds: float) -> None:
    connection = socket.create_connection((target.host, target.port), timeout=seconds)
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: connection.close())
        if target.context is not None:
            name = target.server_name or target.host
            connection = target.context.wrap_socket(connection, server_hostname=name)
            _await_refusal(connection, seconds)
        connection.sendall(b"".join(framed(message) for message in messages))
        if isinstance(connection, ssl.SSLSocket):
            _end_tls(connection)
        else:
            connection.shutdown(socket.SHUT_WR)
            _await_end(connection)


def _await_refusal(connection: socket.socket, seconds: float) -> None:
    """Wait a moment: with TLS 1.3 we are told after our handshake that our certificate will not do.

    Many collectors close in the same way when they refuse as when they have read everything.
    """
    connection.settimeout(_REFUSAL_SECONDS)
    with contextlib.suppress(TimeoutError):
        if not connection.recv(1):
            raise OSError("the collector closed the connection before anything was sent")
    connection.settimeout(seconds)


def _await_end(connection: socket.socket) -> None:
    """Read until the collector closes; it has nothing to say."""
    for _ in range(_MAXIMUM_READS):
        if not connection.recv(4096):
            return
    raise OSError("answers, which no syslog collector does")


def _end_tls(connection: ssl.SSLSocket) -> None:
    """Say that we end and hear the same; raises ssl.SSLError for an alert, such as a refusal."""
    try:
        connection.unwrap()
    except ssl.SSLEOFError:
        return  # closed without saying so: many collectors do
    except OSError as error:
        if error.errno != 0:  # what Python says of the same
            raise


def _send_datagrams(target: SyslogTarget, messages: Sequence[bytes], seconds: float) -> None:
    if any(len(message) > MAXIMUM_DATAGRAM for message in messages):
        raise ValueError(f"a message is larger than {MAXIMUM_DATAGRAM} bytes")
    with contextlib.closing(_datagram_socket(target)) as connection:
        connection.settimeout(seconds)
        for message in messages:
            connection.send(message)


def _datagram_socket(target: SyslogTarget) -> socket.socket:
    if target.transport == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address: str | tuple[Any, ...] = target.host
    else:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, address = found[0]
        connection = socket.socket(family, kind, protocol)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _name(text: str, longest: int) -> str:
    return _HEADER.sub("_", text)[:longest] or "-"
