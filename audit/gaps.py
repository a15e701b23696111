"""What could not be recorded is counted by what it was, and the counts become `gap` entries.

Entries and records that nobody waits for are lost when the database refuses them, or when too much
already waits for it. Whoever loses something says so here; the next flush that the database takes
writes one entry of it: how many of what, since when. So nothing is lost silently, unless the
process dies before the flush: then the next start says that the stop before it was not recorded.

Not here: refusals over their rate (audit/refusals.py) and decisions (the entries of their records),
which have gaps of their own.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from audit.entry import Entry, Json
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Overloaded, StoreUnavailable
from meshca.metrics import Metrics

NOT_WRITTEN: Final = "not_written"


@dataclass(slots=True)
class Gaps:
    """Counts what was lost; belongs to the event loop. Wiring calls `flush` each second."""

    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    _lost: Counter[str] = field(init=False, default_factory=Counter)
    _since: datetime | None = field(init=False, default=None)

    def lost(self, records: Sequence[Any]) -> None:
        """Take note of records that were not written; entries count by their kind."""
        for record in records:
            self.lose(record.kind if isinstance(record, Entry) else type(record).__name__.lower())

    def lose(self, what: str, count: int = 1) -> None:
        """Take note that `count` of `what` (a few known names, never a caller's text) are lost."""
        self.metrics.audit_lost.labels(what).inc(count)
        self._lost[what] += count
        if self._since is None:
            self._since = self.clock.now()

    async def flush(self) -> None:
        """Write what was counted since the last flush as one entry; keep it if that fails."""
        if not self._lost:
            return
        lost, since = self._lost, self._since or self.clock.now()
        self._lost, self._since = Counter(), None
        try:
            await self.writer.submit(gap(self.clock.now(), "entry", NOT_WRITTEN, lost, since))
        except (Overloaded, StoreUnavailable):
            self._lost.update(lost)
            self._since = since


def gap(now: datetime, what: str, reason: str, counts: Counter[str], since: datetime) -> Entry:
    """Return the entry that says how many of `what` are not recorded, by what or why."""
    by_reason: dict[str, Json] = dict(sorted(counts.items()))
    return Entry(
        time=now,
        kind="gap",
        outcome="failed",
        actor="meshca",
        reason=reason,
        details={
            "what": what,
            "unrecorded": counts.total(),
            "by_reason": by_reason,
            "since": since.isoformat(),
        },
    )
