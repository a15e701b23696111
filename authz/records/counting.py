"""Counting equal decisions by the minute, within bounds that no caller can pass.

A caller chooses paths, methods and hosts: of each pair of peer and destination the first
`OPERATIONS_A_PAIR` of a minute are kept apart, the others count as `(other)`. Peers are certified,
so there are only so many; should all together still be more than `ROWS_A_MINUTE`, what is over is
not counted, and the one who adds is told.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from authz.records.operation import Operation
from authz.records.tables import MinuteCount, Outcome

OPERATIONS_A_PAIR: Final = 100
ROWS_A_MINUTE: Final = 20_000

_Pair = tuple[str, str]
_What = tuple[str | None, str | None, str | None]


@dataclass(slots=True)
class _Count:
    first: datetime
    last: datetime
    count: int = 0


@dataclass(slots=True)
class _Minute:
    begins: int
    counts: dict[tuple[Operation, Outcome], _Count] = field(default_factory=dict)
    seen: dict[_Pair, set[_What]] = field(default_factory=lambda: defaultdict(set))


@dataclass(slots=True)
class MinuteCounts:
    """What was decided in the minute under way, and in those that nobody has taken yet."""

    operations_a_pair: int = OPERATIONS_A_PAIR
    rows_a_minute: int = ROWS_A_MINUTE
    _current: _Minute = field(default_factory=lambda: _Minute(0))
    _over: list[_Minute] = field(default_factory=list)

    def add(self, operation: Operation, outcome: Outcome, at: datetime, count: int) -> bool:
        """Count a decision at `at`; return False if it was one too many to keep."""
        minute = self._minute_of(at)
        key = (self._bounded(minute, operation), outcome)
        counted = minute.counts.get(key)
        if counted is None:
            if len(minute.counts) >= self.rows_a_minute:
                return False
            counted = minute.counts[key] = _Count(at, at)
        counted.count += count
        counted.last = at
        return True

    def take(self, now: datetime, *, with_current: bool = False) -> list[MinuteCount]:
        """Return, once, the counts of the minutes that are over at `now`."""
        if with_current or self._current.begins != _beginning(now):
            self._begin(_beginning(now))
        taken, self._over = self._over, []
        return [
            MinuteCount(minute.begins, operation, outcome, c.count, c.first, c.last)
            for minute in taken
            for (operation, outcome), c in minute.counts.items()
        ]

    def _minute_of(self, at: datetime) -> _Minute:
        begins = _beginning(at)
        if begins != self._current.begins:
            self._begin(begins)
        return self._current

    def _begin(self, begins: int) -> None:
        if self._current.counts:
            self._over.append(self._current)
        self._current = _Minute(begins)

    def _bounded(self, minute: _Minute, operation: Operation) -> Operation:
        if operation.protocol == "tcp":
            return operation
        what = (operation.method, operation.path, operation.host)
        seen = minute.seen[operation.source, operation.destination]
        if what in seen:
            return operation
        if len(seen) >= self.operations_a_pair:
            return operation.folded()
        seen.add(what)
        return operation


def _beginning(time: datetime) -> int:
    return int(time.timestamp()) // 60 * 60
