"""Recording decisions without holding up who decides, and without losing any in silence.

    record   at once: tells the observers, counts by the minute, keeps what is recorded in full
    flush    each second: words the reasons (off the event loop), writes what is due

In full: denials, decisions that what is on trial would have reversed, AUDIT matches, and those on
which a proxy and the engine disagree; so many a second, since whoever is denied can ask again as
often as they like. Applications, which also say who asks them, have bounds of their own
(`authz.records.rates`). What is over the bound, or could not be written for a minute because the
database was away, is counted by reason, and the counts are written as a `Gap`.

`entries_of` makes the audit entries of records; they are written in the transaction of these.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from authz.records.bucket import Bucket
from authz.records.counting import Minute, MinuteCounts
from authz.records.observed import Observed, Observers
from authz.records.operation import Operation
from authz.records.rates import AskerRates
from authz.records.tables import FullRecord, Gap, MinuteCount
from authz.records.wording import in_full, outcome_of
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Overloaded, StoreUnavailable
from meshca.metrics import Metrics

RECORDS_PER_SECOND: Final = 100.0
BURST: Final = 1_000
FLUSH_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 60.0
"""For how long records wait for a database that is away."""

_AT_ONCE: Final = 200
RATE, ROWS, DATABASE, WORDING = "rate", "rows", "database", "wording"

_Records = Sequence[FullRecord] | Sequence[MinuteCount] | Sequence[Gap]
EntriesOf = Callable[[_Records, datetime], Sequence[Any]]
"""Makes the audit entries of records of one type at a time; blocking, so off the event loop."""


@dataclass(slots=True)
class _Waiting:
    """Records that wait for the database with their entries, and since when (monotonic)."""

    records: Sequence[FullRecord] | Sequence[MinuteCount]
    entries: Sequence[Any]
    since: float

    def lost(self) -> int:
        return sum(r.count if type(r) is MinuteCount else 1 for r in self.records)


@dataclass(slots=True)
class DecisionRecorder:
    """Records decisions; belongs to the event loop. Wiring runs `run`, and `close` at the end."""

    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    observers: Observers = field(default_factory=Observers)
    counts: MinuteCounts = field(default_factory=MinuteCounts)
    records_per_second: float = RECORDS_PER_SECOND
    burst: int = BURST
    entries_of: EntriesOf = lambda _records, _now: ()
    _bucket: Bucket = field(init=False)
    _askers: AskerRates = field(init=False)
    _fresh: list[Observed] = field(init=False, default_factory=list)
    _waiting: list[_Waiting] = field(init=False, default_factory=list)
    _lost: Counter[str] = field(init=False, default_factory=Counter)
    _losing_since: datetime | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._bucket = Bucket(self.clock, self.records_per_second, float(self.burst))
        self._askers = AskerRates(self.clock)

    def record(self, observed: Observed) -> None:
        """Take note of a decision; never waits, never raises."""
        self.observers.tell(observed)
        operation = Operation.of(observed.request, observed.destination, observed.asked_by)
        outcome = outcome_of(observed)
        if not self.counts.add(operation, outcome, self.clock.now(), observed.count):
            self.lose(ROWS, observed.count)
        if _is_full(observed):
            if self._may_keep(observed.asked_by):
                self._fresh.append(observed)
            else:
                self.lose(RATE, observed.count)

    def _may_keep(self, asked_by: str) -> bool:
        return self._askers.take(asked_by) if asked_by else self._bucket.take()

    def lose(self, reason: str, count: int = 1) -> None:
        """Count decisions that are not recorded."""
        self.metrics.decisions_unrecorded.labels(reason).inc(count)
        self._lost[reason] += count
        if self._losing_since is None:
            self._losing_since = self.clock.now()

    async def run(self) -> None:
        """Write what is due each second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def close(self) -> None:
        """Write everything, the minute under way too: the process ends."""
        await self.flush(with_current=True)

    async def flush(self, *, with_current: bool = False) -> None:
        """Write what is due; what cannot be written waits, and in the end counts as lost."""
        fresh, self._fresh = self._fresh, []
        minutes = self.counts.take(self.clock.now(), with_current=with_current)
        if fresh or minutes:
            try:
                self._waiting += await asyncio.to_thread(self._worded, fresh, minutes)
            except Exception:  # a mistake of ours; not in silence
                self.lose(WORDING, len(fresh) + sum(minute.total for minute in minutes))
                raise
        waiting, self._waiting = self._waiting, []
        for some in waiting:
            if not await self._write(*some.records, *some.entries):
                self._keep(some)
        await self._write_gaps()

    def _worded(self, fresh: list[Observed], minutes: list[Minute]) -> list[_Waiting]:
        counts = [each for minute in minutes for each in minute.counted()]
        counts.sort(key=_grouped)
        return [*self._in_pieces([in_full(each) for each in fresh]), *self._in_pieces(counts)]

    def _in_pieces(self, records: Sequence[FullRecord] | Sequence[MinuteCount]) -> list[_Waiting]:
        now, since = self.clock.now(), self.clock.monotonic()
        pieces = [records[start : start + _AT_ONCE] for start in range(0, len(records), _AT_ONCE)]
        return [_Waiting(piece, self.entries_of(piece, now), since) for piece in pieces]

    def _keep(self, some: _Waiting) -> None:
        if self.clock.monotonic() - some.since < PATIENCE_SECONDS:
            self._waiting.append(some)
        else:
            self.lose(DATABASE, some.lost())

    async def _write(self, *records: Any) -> bool:
        try:
            await self.writer.submit(*records)
        except (Overloaded, StoreUnavailable):
            return False
        return True

    async def _write_gaps(self) -> None:
        if not self._lost:
            return
        lost, since = self._lost, self._losing_since or self.clock.now()
        self._lost, self._losing_since = Counter(), None
        now = self.clock.now()
        gaps = [Gap(now, since, reason, count) for reason, count in sorted(lost.items())]
        if not await self._write(*gaps, *self.entries_of(gaps, now)):
            self._lost.update(lost)
            self._losing_since = since


def _grouped(counted: MinuteCount) -> tuple[Any, ...]:
    """Return a key by which the counts of one caller, destination and policy stand together."""
    operation, outcome = counted.operation, counted.outcome
    where = operation.destination, operation.namespace, operation.labels
    who = operation.asked_by, operation.source
    return counted.minute, *who, *where, outcome.allowed, outcome.policy


def _is_full(observed: Observed) -> bool:
    if not observed.allowed or observed.disagrees or observed.shadow_differs:
        return True
    return bool(observed.decision.audited)
