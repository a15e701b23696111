"""The parts that look after the audit log, joined: what wiring needs of them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import sqlalchemy as sa

from audit.checkpoints import CHECKPOINT_SINKS
from audit.clock_watch import ClockWatch
from audit.index.indexer import Indexer
from audit.index.tables import INDEX_SINKS
from audit.key_files import KeyFiles
from audit.log import Log
from audit.log_keys import LOG_KEY_SINKS, LogKeys
from audit.retention.hold_operations import LegalHolds
from audit.retention.loop import LOOP as RETENTION_LOOP
from audit.retention.loop import Retention
from audit.retention.rules import rules_of
from audit.retention.sinks import RETENTION_SINKS
from audit.signing import CheckpointSigner, LastSigned
from audit.sinks.feed import SinkFeed
from audit.sinks.store import SINK_SINKS
from ca.upstream.build import build_key_at_rest
from meshca.change_feed import ChangeFeed
from meshca.clock import Clock
from meshca.database import GroupWriter, Sink
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks
from meshca.settings import Settings
from meshca.wiring_anchors import OUTSIDE_SINKS, OutsideParts, build_outside
from meshca.wiring_sinks import build_sinks, loops_of

Loop = Callable[[], Awaitable[None]]

AUDIT_SINKS: Final[Mapping[type, Sink]] = MappingProxyType(
    {
        **CHECKPOINT_SINKS,
        **LOG_KEY_SINKS,
        **INDEX_SINKS,
        **RETENTION_SINKS,
        **OUTSIDE_SINKS,
        **SINK_SINKS,
    }
)
"""What writes the records of the parts below, besides the entries themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditParts:
    """The log, and what runs behind it."""

    log: Log
    signer: CheckpointSigner
    clock_watch: ClockWatch
    indexer: Indexer
    retention: Retention
    holds: LegalHolds
    outside: OutsideParts
    sinks: Sequence[SinkFeed]

    def loops(self) -> Mapping[str, Loop]:
        """Return what runs for as long as the service does, by name."""
        return {
            "clock": self.clock_watch.run,
            "checkpoints": self.signer.run,
            "audit index": self.indexer.run,
            RETENTION_LOOP: self.retention.run,
            **self.outside.loops(),
            **loops_of(self.sinks),
        }

    async def close(self) -> None:
        """Sign for the last entries, which say that we stop; it fails as the loop does: quietly."""
        await self.signer.step()


def build_audit(
    settings: Settings,
    *,
    engine: sa.Engine,
    writer: GroupWriter,
    feed: ChangeFeed,
    locks: NameLocks,
    clock: Clock,
    metrics: Metrics,
) -> AuditParts:
    """Return the parts; nothing runs yet."""
    log = Log(engine)
    origin = settings.audit.name(settings.trust_domain)
    directory = settings.data_dir / "audit"
    keys = LogKeys(
        files=KeyFiles(
            directory=directory / "keys",
            origin=origin,
            wrapping=build_key_at_rest(settings, clock, metrics),
        ),
        engine=engine,
        writer=writer,
        clock=clock,
        replica=settings.replica,
        overlap=settings.audit.key_overlap,
    )
    return AuditParts(
        log=log,
        signer=CheckpointSigner(
            origin=origin,
            log=log,
            keys=keys,
            last=LastSigned(directory / "last-checkpoint"),
            locks=locks,
            writer=writer,
            clock=clock,
            metrics=metrics,
        ),
        clock_watch=ClockWatch(engine=engine, writer=writer, clock=clock, replica=settings.replica),
        indexer=Indexer(log=log, writer=writer, locks=locks, metrics=metrics),
        retention=Retention(
            engine=engine,
            writer=writer,
            locks=locks,
            clock=clock,
            metrics=metrics,
            rules=rules_of(settings),
        ),
        holds=LegalHolds(engine=engine, writer=writer, clock=clock),
        outside=build_outside(
            settings, log=log, writer=writer, locks=locks, clock=clock, metrics=metrics
        ),
        sinks=build_sinks(
            settings, log=log, writer=writer, locks=locks, clock=clock, metrics=metrics
        ),
    )
