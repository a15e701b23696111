"""Recording refusals without letting whoever is refused fill the database.

Anyone who reaches a door can be refused as often as they like. A token bucket lets so many
entries a second through; what is over is counted by reason, and the counts are written as one
`gap` entry by `flush`. So nothing is lost silently: the log says how many refusals it does not
hold, since when, and why they were refused.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from audit.entry import Entry
from audit.gaps import gap
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Overloaded, StoreUnavailable
from meshca.metrics import Metrics

ENTRIES_PER_SECOND = 200.0
BURST = 1_000
FLUSH_SECONDS = 1.0
MAXIMUM_REASONS = 100
OTHER = "other"


@dataclass(slots=True)
class RefusalRecorder:
    """Writes refusals at a bounded rate without waiting; wiring calls `flush` each second."""

    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    entries_per_second: float = ENTRIES_PER_SECOND
    burst: int = BURST
    _tokens: float = field(init=False)
    _filled_at: float = field(init=False)
    _folded: Counter[str] = field(init=False, default_factory=Counter)
    _folding_since: datetime | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)
        self._filled_at = self.clock.monotonic()

    def record(self, entry: Entry) -> None:
        """Log `entry` with one of the next commits, or count it; never waits, never raises."""
        if not self._take():
            self._fold(entry)
            return
        try:
            self.writer.enqueue(entry)
        except (Overloaded, StoreUnavailable):
            self._fold(entry)

    async def flush(self) -> None:
        """Write what was counted since the last flush as one entry; keep it if that fails."""
        if not self._folded:
            return
        counts, since = self._folded, self._folding_since
        self._folded, self._folding_since = Counter(), None
        try:
            await self.writer.submit(self._gap(counts, since or self.clock.now()))
        except (Overloaded, StoreUnavailable):
            self._folded.update(counts)
            self._folding_since = since

    def _take(self) -> bool:
        now = self.clock.monotonic()
        gained = (now - self._filled_at) * self.entries_per_second
        self._filled_at = now
        self._tokens = min(float(self.burst), self._tokens + gained)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _fold(self, entry: Entry) -> None:
        self.metrics.refusals_unrecorded.inc()
        known = entry.reason in self._folded or len(self._folded) < MAXIMUM_REASONS
        self._folded[entry.reason if known else OTHER] += 1
        if self._folding_since is None:
            self._folding_since = self.clock.now()

    def _gap(self, counts: Counter[str], since: datetime) -> Entry:
        return gap(self.clock.now(), "refusal", "too_many_refusals", counts, since)
