"""Counting equal decisions by the minute, within bounds that no caller can pass.

A caller chooses paths, methods and hosts: of each pair of peer and destination the first
`OPERATIONS_A_PAIR` of a minute are kept apart, the others count as `(other)`. Peers are certified,
so there are only so many; of what an application only claims, it is the peer itself. Should all
together still be more than `ROWS_A_MINUTE`, or those of one destination, whose proxy tells of them,
more than `SHARE` of that, what is over counts as `(other)` where there is such a row. Where there
is none it is not counted, and the one who adds is told.
"""

from collections import Counter, defaultdict
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from authz.records.operation import Operation
from authz.records.tables import MinuteCount, Outcome

OPERATIONS_A_PAIR: Final = 100
ROWS_A_MINUTE: Final = 20_000
SHARE: Final = 0.25
"""How much of the rows of a minute one destination may take."""

_Pair = tuple[str, str]
_What = tuple[str | None, str | None, str | None]
_NOTHING: Final[AbstractSet[_What]] = frozenset()


@dataclass(slots=True)
class _Count:
    first: datetime
    last: datetime
    count: int = 0


@dataclass(slots=True)
class Minute:
    """The counts of one minute, which begins at so many seconds since the epoch."""

    begins: int
    counts: dict[tuple[Operation, Outcome], _Count] = field(default_factory=dict)
    seen: dict[_Pair, set[_What]] = field(default_factory=lambda: defaultdict(set))
    rows: Counter[str] = field(default_factory=Counter)

    def counted(self) -> list[MinuteCount]:
        """Return its rows; there may be thousands, so off the event loop once it is over."""
        return [
            MinuteCount(self.begins, operation, outcome, c.count, c.first, c.last)
            for (operation, outcome), c in self.counts.items()
        ]

    @property
    def total(self) -> int:
        """Return how many decisions it counts."""
        return sum(counted.count for counted in self.counts.values())


@dataclass(slots=True)
class MinuteCounts:
    """What was decided in the minute under way, and in those that nobody has taken yet."""

    operations_a_pair: int = OPERATIONS_A_PAIR
    rows_a_minute: int = ROWS_A_MINUTE
    _current: Minute = field(default_factory=lambda: Minute(0))
    _over: list[Minute] = field(default_factory=list)

    def add(self, operation: Operation, outcome: Outcome, at: datetime, count: int) -> bool:
        """Count a decision at `at`; return False if it was one too many to keep."""
        minute = self._minute_of(at)
        is_full = self._is_full(minute, operation.destination)
        key = (self._bounded(minute, operation, is_full=is_full), outcome)
        counted = minute.counts.get(key)
        if counted is None and is_full:
            counted = minute.counts.get((operation.folded(), outcome))
            if counted is None:
                return False
        if counted is None:
            counted = minute.counts[key] = _Count(at, at)
            minute.rows[operation.destination] += 1
        counted.count += count
        counted.last = at
        return True

    def take(self, now: datetime, *, with_current: bool = False) -> list[Minute]:
        """Return, once, the minutes that are over at `now`; nothing is added to these any more."""
        if with_current or self._current.begins != _beginning(now):
            self._begin(_beginning(now))
        taken, self._over = self._over, []
        return taken

    def _minute_of(self, at: datetime) -> Minute:
        begins = _beginning(at)
        if begins != self._current.begins:
            self._begin(begins)
        return self._current

    def _begin(self, begins: int) -> None:
        if self._current.counts:
            self._over.append(self._current)
        self._current = Minute(begins)

    def _is_full(self, minute: Minute, destination: str) -> bool:
        share = max(1, int(self.rows_a_minute * SHARE))
        return len(minute.counts) >= self.rows_a_minute or minute.rows[destination] >= share

    def _bounded(self, minute: Minute, operation: Operation, *, is_full: bool) -> Operation:
        if operation.protocol == "tcp":
            return operation
        pair = operation.asked_by or operation.source, operation.destination
        what = (operation.method, operation.path, operation.host)
        seen = minute.seen.get(pair, _NOTHING)
        if what in seen:
            return operation
        if is_full or len(seen) >= self.operations_a_pair:
            return operation.folded()
        minute.seen[pair].add(what)
        return operation


def _beginning(time: datetime) -> int:
    return int(time.timestamp()) // 60 * 60
