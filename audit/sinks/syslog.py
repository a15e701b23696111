"""Syslog collectors (RFC 5424): a message an entry, as JSON or CEF, facility 13 (log audit).

JSON is the entry's body with what does not print escaped: the same JSON, one printable line. Over
TCP and TLS a batch is delivered when the collector has closed its side after ours, so it has read
all of it (audit/syslog.py); over a unix socket when the kernel has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from audit.export import cef, json_lines
from audit.export.severity import SYSLOG, severity_of
from audit.export.text import visible
from audit.log import Stored
from audit.sinks.feed import BatchRefused
from audit.syslog import MAXIMUM_DATAGRAM, SyslogTarget, send, syslog_message

TOTAL_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SyslogCollector:
    """The collector `target`; `host` is what we call ourselves there."""

    target: SyslogTarget
    host: str
    origin: str
    version: str
    format: Literal["json", "cef"] = "json"

    async def take(self, entries: Sequence[Stored]) -> int:
        """Deliver `entries`; see `audit.sinks.feed.Collector`."""
        messages = [self.message(stored) for stored in entries]
        is_stream = self.target.transport in ("tcp", "tls")
        if not is_stream and any(len(message) > MAXIMUM_DATAGRAM for message in messages):
            raise BatchRefused(f"a message is larger than {MAXIMUM_DATAGRAM} bytes")
        await send(self.target, messages, total_seconds=TOTAL_SECONDS)
        return 0

    def message(self, stored: Stored) -> bytes:
        """Return the message of one entry."""
        document = stored.document() or {}
        return syslog_message(
            self._text(stored),
            time=datetime.fromtimestamp(stored.time_us / 1_000_000, UTC),
            host=self.host,
            message_id=stored.kind,
            severity=SYSLOG[severity_of(stored.kind, document.get("outcome", ""))],
        )

    def _text(self, stored: Stored) -> str:
        if self.format == "cef":
            line = cef.event(stored, origin=self.origin, version=self.version)
            return line.decode().removesuffix("\n")
        return visible(json_lines.entry(stored).decode().removesuffix("\n"))
