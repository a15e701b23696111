"""Building what takes checkpoints outside, and the witness of other logs."""

import asyncio
import platform
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from audit.anchors.anchor import Anchor
from audit.anchors.file import FileAnchor
from audit.anchors.keeper import AnchorKeeper
from audit.anchors.plan import OutsidePlan
from audit.anchors.s3 import Bucket, S3Anchor
from audit.anchors.s3_credentials import CredentialSource
from audit.anchors.store import ANCHOR_SINKS
from audit.anchors.syslog import SyslogAnchor
from audit.anchors.witness import WitnessAnchor
from audit.log import Log
from audit.note import VerifierKey
from audit.refusals import RefusalRecorder
from audit.syslog import SyslogTarget
from audit.witness.key import load_witness_key
from audit.witness.memory import WitnessMemory
from audit.witness.store import WITNESS_SINKS
from audit.witness.witness import Witness
from meshca.clock import Clock
from meshca.database import GroupWriter, Sink
from meshca.errors import Unavailable
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks
from meshca.settings import Settings
from meshca.settings_anchors import AnchorConfig, S3Place, SyslogPlace, WitnessPlace
from meshca.web import web_context

SECONDS_A_REFUSAL: Final = 5.0
REFUSALS_AT_ONCE: Final = 50
FLUSH_SECONDS: Final = 60.0
OUTSIDE_SINKS: Final[Mapping[type, Sink]] = MappingProxyType({**ANCHOR_SINKS, **WITNESS_SINKS})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideParts:
    """Anchors of our log, and with `audit.witness` the witness of others."""

    keeper: AnchorKeeper
    witness: Witness | None

    def loops(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """Return what runs for as long as the service does, by name."""
        loops = {"anchors": self.keeper.run}
        return loops if self.witness is None else {**loops, "witness refusals": self._flush}

    def plan(self) -> OutsidePlan:
        """Return what there is, for those who show it."""
        anchors = [(anchor.name, every) for anchor, every in self.keeper.anchors]
        if self.witness is None:
            return OutsidePlan(anchors)
        return OutsidePlan(anchors, str(self.witness.key.verifier), tuple(self.witness.logs))

    async def _flush(self) -> None:
        while self.witness is not None:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.witness.refusals.flush()


def build_outside(
    settings: Settings,
    *,
    log: Log,
    writer: GroupWriter,
    locks: NameLocks,
    clock: Clock,
    metrics: Metrics,
) -> OutsideParts:
    """Return the parts; nothing runs yet.

    Raises Unavailable for a file that cannot be read, and for two anchors that are one place.
    """
    origin = settings.audit.name(settings.trust_domain)
    built = build_anchors(settings, origin=origin, log=log, clock=clock)
    anchors = [
        (anchor, config.every) for anchor, config in zip(built, settings.audit.anchors, strict=True)
    ]
    names = [anchor.name for anchor, _ in anchors]
    if twice := {name for name in names if names.count(name) > 1}:
        raise Unavailable(f"audit.anchors names one place twice: {', '.join(sorted(twice))}")
    keeper = AnchorKeeper(
        origin=origin,
        anchors=anchors,
        log=log,
        locks=locks,
        writer=writer,
        clock=clock,
        metrics=metrics,
    )
    witness = _witness(settings, log=log, writer=writer, clock=clock, metrics=metrics)
    return OutsideParts(keeper=keeper, witness=witness)


def build_anchors(settings: Settings, *, origin: str, log: Log, clock: Clock) -> list[Anchor]:
    """Return the anchors that are configured, for the log `origin`.

    Raises Unavailable for a file that cannot be read.
    """
    return [
        _anchor(config, origin=origin, log=log, clock=clock) for config in settings.audit.anchors
    ]


def _witness(
    settings: Settings, *, log: Log, writer: GroupWriter, clock: Clock, metrics: Metrics
) -> Witness | None:
    config = settings.audit.witness
    if config is None:
        return None
    path = config.key_file or settings.data_dir / "audit" / "witness.key"
    name = config.name or f"{settings.trust_domain}/meshca/witness"
    return Witness(
        key=load_witness_key(path, name),
        logs={each.origin: [VerifierKey.parse(key) for key in each.keys] for each in config.logs},
        engine=log.engine,
        memory=WitnessMemory(settings.data_dir / "audit" / "witnessed.json"),
        writer=writer,
        refusals=RefusalRecorder(
            writer, clock, metrics, entries_per_second=1 / SECONDS_A_REFUSAL, burst=REFUSALS_AT_ONCE
        ),
        clock=clock,
        metrics=metrics,
    )


def _anchor(config: AnchorConfig, *, origin: str, log: Log, clock: Clock) -> Anchor:
    if config.file is not None:
        return FileAnchor(config.file, origin)
    if config.s3 is not None:
        return _s3(config.s3, origin, clock)
    if config.syslog is not None:
        return SyslogAnchor(target=_collector(config.syslog), host=platform.node(), clock=clock)
    assert config.witness is not None  # noqa: S101  # the configuration has exactly one of them
    return _witness_anchor(config.witness, log, clock)


def _s3(place: S3Place, origin: str, clock: Clock) -> S3Anchor:
    bucket = Bucket(
        endpoint=place.endpoint,
        bucket=place.bucket,
        prefix=place.prefix,
        region=place.region,
        virtual_host=place.virtual_host,
    )
    return S3Anchor(
        bucket=bucket,
        origin=origin,
        credentials=CredentialSource(place.credentials_file, place.profile),
        clock=clock,
        context=_context(place.ca_file),
    )


def _collector(place: SyslogPlace) -> SyslogTarget:
    if place.socket is not None:
        return SyslogTarget("unix", str(place.socket))
    host, _, port = (place.address or "").rpartition(":")
    context = _context(place.ca_file) if place.transport == "tls" else None
    name = place.server_name or ""
    return SyslogTarget(place.transport, host.strip("[]"), int(port), context, name)


def _witness_anchor(place: WitnessPlace, log: Log, clock: Clock) -> WitnessAnchor:
    return WitnessAnchor(
        url=place.url,
        key=VerifierKey.parse(place.key),
        log=log,
        clock=clock,
        context=_context(place.ca_file),
    )


def _context(roots: Path | None) -> ssl.SSLContext:
    try:
        return web_context(roots.read_text(encoding="ascii") if roots else "")
    except (OSError, ValueError, ssl.SSLError) as error:
        raise Unavailable(f"audit.anchors: {roots} holds no roots: {error}") from error
