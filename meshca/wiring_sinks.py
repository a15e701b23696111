"""Building the sinks of the audit log."""

import platform
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from audit.log import Log
from audit.sinks.feed import Collector, SinkFeed
from audit.sinks.otlp import OtlpCollector
from audit.sinks.syslog import SyslogCollector
from audit.syslog import SyslogTarget
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Unavailable
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks
from meshca.settings import Settings
from meshca.settings_sinks import OtlpPlace, SinkConfig, SyslogSinkPlace
from meshca.web import web_context


@dataclass(frozen=True, slots=True)
class Places:
    """What every sink says of itself: the log's name, our version, and the clock."""

    origin: str
    version: str
    clock: Clock


def build_sinks(
    settings: Settings,
    *,
    log: Log,
    writer: GroupWriter,
    locks: NameLocks,
    clock: Clock,
    metrics: Metrics,
) -> Sequence[SinkFeed]:
    """Return the sinks; nothing runs yet. Raises Unavailable for a file that cannot be read."""
    places = Places(settings.audit.name(settings.trust_domain), version("meshca"), clock)
    return [
        SinkFeed(
            name=config.name,
            collector=_collector(config, places),
            log=log,
            locks=locks,
            writer=writer,
            clock=clock,
            metrics=metrics,
            begins=config.begin,
        )
        for config in settings.audit.sinks
    ]


def loops_of(sinks: Sequence[SinkFeed]) -> Mapping[str, Callable[[], Awaitable[None]]]:
    """Return what runs for as long as the service does, by name."""
    return {f"sink {sink.name}": sink.run for sink in sinks}


def _collector(config: SinkConfig, places: Places) -> Collector:
    if config.otlp is not None:
        return _otlp(config.otlp, places)
    assert config.syslog is not None  # noqa: S101  # the configuration has exactly one of them
    return _syslog(config.syslog, places)


def _otlp(place: OtlpPlace, places: Places) -> OtlpCollector:
    return OtlpCollector(
        url=place.url,
        origin=places.origin,
        version=places.version,
        clock=places.clock,
        context=_context(place.ca_file) if place.url.startswith("https:") else None,
        token_file=place.token_file,
    )


def _syslog(place: SyslogSinkPlace, places: Places) -> SyslogCollector:
    return SyslogCollector(
        target=_target(place),
        host=platform.node(),
        origin=places.origin,
        version=places.version,
        format=place.format,
    )


def _target(place: SyslogSinkPlace) -> SyslogTarget:
    if place.socket is not None:
        return SyslogTarget("unix", str(place.socket))
    host, _, port = (place.address or "").rpartition(":")
    context = _context(place.ca_file) if place.transport == "tls" else None
    name = place.server_name or ""
    return SyslogTarget(place.transport, host.strip("[]"), int(port), context, name)


def _context(roots: Path | None) -> ssl.SSLContext:
    try:
        return web_context(roots.read_text(encoding="ascii") if roots else "")
    except (OSError, ValueError, ssl.SSLError) as error:
        raise Unavailable(f"audit.sinks: {roots} holds no roots: {error}") from error
