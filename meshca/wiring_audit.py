"""The parts that look after the audit log, joined: what wiring needs of them."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from audit.log import Log
from meshca.change_feed import ChangeFeed
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks
from meshca.settings import Settings

Loop = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditParts:
    """The log, and what runs behind it."""

    log: Log

    def loops(self) -> Mapping[str, Loop]:
        """Return what runs for as long as the service does, by name."""
        return {}


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
    return AuditParts(log=Log(engine))
