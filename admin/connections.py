"""HTTP/1.1 for doors that strangers reach: how long one of them may hold a connection for nothing.

From its beginning (over TLS, from the end of the handshake), and from the end of each answer, a
connection has `patience` to bring the next whole request head; it is closed then, and cut when
what was written is not taken within `stall`. So is one whose answer goes on, but of which no
`STALL_BYTES` are taken in that time. How long a request and its body may take is not known here.
"""

import asyncio
from ipaddress import IPv6Address, ip_address
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_SECONDS: Final = 10.0
"""How long the next whole request head may take, whatever else comes before it."""
STALL_SECONDS: Final = 60.0
STALL_BYTES: Final = 64 * 1024
"""How much of an answer that waits is to be taken in so many seconds, or all that waits."""
HANDSHAKE_SECONDS: Final = 5.0
"""How long a TLS handshake may take."""
_NETWORK_BITS: Final = 64


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on whoever asks nothing, stops in the middle, or takes no answer."""

    patience: ClassVar[float] = HEAD_SECONDS
    stall: ClassVar[float] = STALL_SECONDS

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._silence: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._left = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Wait for the next request; what is left of the last one's body does not count as one."""
        self._wait()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timers."""
        for timer in (self._silence, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        """Do nothing: `patience` ends an idle connection."""

    def pause_writing(self) -> None:
        """Wait for the other end to take what we wrote."""
        super().pause_writing()
        self._watch_taking()

    def resume_writing(self) -> None:
        """Go on: it was taken."""
        if self._stalled is not None:
            self._stalled.cancel()
        super().resume_writing()
        self._wait()  # an answer that is whole may have been waiting to be taken

    def _wait(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
        self._silence = self.loop.call_later(self.patience, self._end_silence)

    def _end_silence(self) -> None:
        cycle: RequestResponseCycle | None = self.cycle
        if self.flow.write_paused or not (cycle is None or cycle.response_complete):
            return  # a request is under way, or its answer
        if self.transport.is_closing():
            self.transport.abort()
        else:
            self.transport.close()
            self._silence = self.loop.call_later(self.stall, self._end_silence)

    def _watch_taking(self) -> None:
        self._left = self.transport.get_write_buffer_size()
        self._stalled = self.loop.call_later(self.stall, self._end_stall)

    def _end_stall(self) -> None:
        if self._left - self.transport.get_write_buffer_size() < STALL_BYTES:
            self.transport.abort()
        else:
            self._watch_taking()


def origin(host: str) -> str:
    """Return what counts as one origin of connections: an IPv4 address, or an IPv6 network /64."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return f"{int(address) >> _NETWORK_BITS:x}::/{_NETWORK_BITS}"
    return str(address)
