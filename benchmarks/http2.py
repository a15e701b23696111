"""The little of HTTP/2 (RFC 9113) and gRPC that a simulated proxy needs: one connection's framing.

A gRPC client in Python costs as much as the server it measures; this costs a third. It sends what
Envoy sends and reads what carries messages; header blocks that come back are not decoded. Bytes
in, events out: no socket here.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
_WINDOW = 2**24
_INITIAL_WINDOW_SIZE = 4

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Message:
    """A gRPC message that came on a stream."""

    stream: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """A stream, or the connection with all of its streams, is over."""

    why: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Bytes that the protocol itself has to answer with."""

    data: bytes


class Connection:
    """What has come on one connection, cut into events."""

    __slots__ = ("_messages", "_received")

    def __init__(self) -> None:
        self._received = b""
        self._messages: dict[int, bytes] = {}

    def feed(self, data: bytes) -> Iterator[Message | Ended | Reply]:
        """Yield what `data` completes."""
        received = self._received + data
        start = 0
        while len(received) - start >= 9:
            length = int.from_bytes(received[start : start + 3])
            if len(received) - start < 9 + length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", received, start + 3)
            payload = received[start + 9 : start + 9 + length]
            start += 9 + length
            yield from self._frame(kind, flags, stream, payload)
        self._received = received[start:]

    def _frame(
        self, kind: int, flags: int, stream: int, payload: bytes
    ) -> Iterator[Message | Ended | Reply]:
        if kind == _DATA:
            yield from self._cut(stream, payload)
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            yield Reply(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind in (_RST_STREAM, _GOAWAY):
            code = int.from_bytes(payload[4 * (kind == _GOAWAY) :][:4])
            yield Ended(f"{'reset' if kind == _RST_STREAM else 'goaway'}, code {code}")
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            yield Ended("closed by the server")

    def _cut(self, stream: int, payload: bytes) -> Iterator[Message]:
        """Cut a stream's octets into messages (gRPC over HTTP/2: Length-Prefixed-Message)."""
        octets = self._messages.pop(stream, b"") + payload
        start = 0
        while len(octets) - start >= 5:
            end = start + 5 + int.from_bytes(octets[start + 1 : start + 5])
            if len(octets) < end:
                break
            yield Message(stream, octets[start + 5 : end])
            start = end
        if start < len(octets):
            self._messages[stream] = octets[start:]


def preface() -> bytes:
    """Return what a client says first: windows wide enough that none is ever used up."""
    settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, _WINDOW)
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(_SETTINGS, 0, 0, settings)
        + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW))
    )


def call(stream: int, headers: Headers) -> bytes:
    """Return what opens a gRPC call: its headers, as literals without indexing (RFC 7541 6.2.2)."""
    block = b"".join(b"\x00" + _literal(name) + _literal(value) for name, value in headers)
    return _frame(_HEADERS, _END_HEADERS, stream, block)


def message(stream: int, body: bytes) -> bytes:
    """Return one gRPC message, uncompressed."""
    return _frame(_DATA, 0, stream, struct.pack(">BI", 0, len(body)) + body)


def _literal(text: str) -> bytes:
    """Return a string literal without Huffman code (RFC 7541 5.1, 5.2)."""
    octets = text.encode()
    length = len(octets)
    if length < 127:
        return bytes([length]) + octets
    prefix, length = [127], length - 127
    while length >= 128:
        prefix.append(length % 128 + 128)
        length //= 128
    return bytes([*prefix, length]) + octets


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload
