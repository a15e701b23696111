"""OpenTelemetry logs: OTLP over HTTP with protobuf (opentelemetry.io/docs/specs/otlp).

An entry is a log record: its body is the entry's own, byte for byte, its attributes what queries
are made of. Answers mean what the specification says: 429, 502, 503, 504 and everything that looks
like the way to the collector are tried again, 400 and 413 are about what was sent, and what a
partial success rejects is gone.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from google.protobuf.message import DecodeError

from audit.entry import TEXTS
from audit.export.severity import OTLP, severity_of
from audit.log import Stored
from audit.proto import otlp_logs_pb2 as otlp
from audit.sinks.feed import BatchRefused
from meshca.clock import Clock
from meshca.errors import Unavailable
from meshca.logs import clip, get_logger
from meshca.web import read_bounded

TIMEOUT_SECONDS: Final = 30.0
MAXIMUM_ANSWER_BYTES: Final = 64 * 1024
_REFUSALS: Final = (400, 413, 422)
_PROTOBUF: Final = "application/x-protobuf"
_TEXTS: Final = tuple(name for name in TEXTS if name != "kind")

log = get_logger("audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpCollector:
    """The collector at `url`, such as https://otel:4318/v1/logs.

    `token_file`, read at each request, holds what follows `Bearer`. `context` verifies the
    collector; without one `url` is plain HTTP.
    """

    url: str
    origin: str
    version: str
    clock: Clock
    context: ssl.SSLContext | None = None
    token_file: Path | None = None

    async def take(self, entries: Sequence[Stored]) -> int:
        """Deliver `entries`; see `audit.sinks.feed.Collector`."""
        body = self.request(entries).SerializeToString()
        try:
            headers = {"content-type": _PROTOBUF, "accept-encoding": "identity", **self._token()}
            async with (
                httpx.AsyncClient(
                    verify=self.context or False, trust_env=False, timeout=TIMEOUT_SECONDS
                ) as client,
                client.stream("POST", self.url, content=body, headers=headers) as response,
            ):
                answer = await read_bounded(response, MAXIMUM_ANSWER_BYTES)
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise Unavailable(
                f"{self.url} does not answer: {str(error) or type(error).__name__}"
            ) from error
        return self._rejected(response.status_code, answer)

    def request(self, entries: Sequence[Stored]) -> otlp.ExportLogsServiceRequest:
        """Return what is sent."""
        scope = otlp.ScopeLogs(
            scope=otlp.InstrumentationScope(name="meshca.audit", version=self.version),
            log_records=[self._record(stored) for stored in entries],
        )
        resource = {
            "service.name": "meshca",
            "service.version": self.version,
            "meshca.audit.log": self.origin,
        }
        logs = otlp.ResourceLogs(
            resource=otlp.Resource(attributes=[_text(*pair) for pair in resource.items()]),
            scope_logs=[scope],
        )
        return otlp.ExportLogsServiceRequest(resource_logs=[logs])

    def _record(self, stored: Stored) -> otlp.LogRecord:
        document = stored.document() or {}
        severity = severity_of(stored.kind, document.get("outcome", ""))
        attributes = [
            _number("meshca.audit.index", stored.index),
            _text("meshca.audit.kind", stored.kind),
            _text("meshca.audit.leaf_hash", stored.leaf_hash.hex()),
            *(
                _text(f"meshca.audit.{name}", document[name])
                for name in _TEXTS
                if document.get(name)
            ),
        ]
        if stored.body is None:
            redacted = otlp.AnyValue(bool_value=True)
            attributes.append(otlp.KeyValue(key="meshca.audit.redacted", value=redacted))
        return otlp.LogRecord(
            time_unix_nano=stored.time_us * 1000,
            observed_time_unix_nano=int(self.clock.now().timestamp() * 1_000_000) * 1000,
            severity_number=OTLP[severity],
            severity_text=severity.name,
            event_name=f"meshca.audit.{stored.kind}",
            body=otlp.AnyValue(string_value=(stored.body or b"").decode()),
            attributes=attributes,
        )

    def _token(self) -> dict[str, str]:
        if self.token_file is None:
            return {}
        return {"authorization": f"Bearer {self.token_file.read_text(encoding='ascii').strip()}"}

    def _rejected(self, status: int, answer: bytes) -> int:
        """Return how many records a partial success rejects; raises for anything but success."""
        if status in _REFUSALS:
            raise BatchRefused(
                f"{self.url} answers {status}: {clip(answer.decode(errors='replace'))}"
            )
        if not 200 <= status < 300:
            raise Unavailable(f"{self.url} answers {status}")
        try:
            partial = otlp.ExportLogsServiceResponse.FromString(answer).partial_success
        except DecodeError as error:
            raise Unavailable(f"{self.url} answers with what is no OTLP") from error
        if partial.rejected_log_records > 0:
            message = clip(partial.error_message)
            log.error("audit_sink_rejected", count=partial.rejected_log_records, error=message)
        return max(0, partial.rejected_log_records)


def _text(key: str, value: str) -> otlp.KeyValue:
    return otlp.KeyValue(key=key, value=otlp.AnyValue(string_value=value))


def _number(key: str, value: int) -> otlp.KeyValue:
    return otlp.KeyValue(key=key, value=otlp.AnyValue(int_value=value))
