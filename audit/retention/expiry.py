"""Finding what is due: walks over the old part of the log, in pages, without a lock.

The log has no index by time, and appending is to cost nothing more. Its entries are almost in the
order of their times, so where the old part ends is found by halving; what a clock that was set
back put behind that end is found once the end has passed it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from audit.retention.holds import Hold, read_holds
from audit.retention.redaction import Candidate, sort_out
from audit.retention.rules import Rules
from audit.tree import audit_entries, read_frontier
from meshca.database import reading

PAGE: Final = 2_000
_OVERLAP: Final = 20_000
"""How many entries before the last end are looked at again: writers' times differ a little."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page of the log: what is due, and how many entries of each kind may not go yet."""

    due: tuple[Candidate, ...]
    held: Mapping[str, int]
    live: Mapping[str, int]


@dataclass(slots=True)
class Expired:
    """Walks over what `rules` let go at `now`; `end` is where the old part of the log ends."""

    engine: sa.Engine
    rules: Rules
    now: datetime
    start: int = 0
    end: int = field(init=False, default=0)

    def pages(self) -> Iterator[Found]:
        """Yield what is due and what is spared, a page a time; raises StoreUnavailable."""
        cutoffs = self.rules.cutoffs(self.now)
        if not cutoffs:
            return
        self.end = self._first_after(max(cutoffs.values()))
        start = self.start
        while start < self.end:
            holds = read_holds(self.engine)
            candidates = self._page(start, cutoffs, holds)
            if not candidates:
                return
            start = candidates[-1].index + 1
            found = sort_out(candidates, holds, self.now)
            yield Found(tuple(found.due), _counted(found.held), _counted(found.live))

    @property
    def next_start(self) -> int:
        """Return where the next walk by the same rules and holds may begin."""
        return max(self.start, self.end - _OVERLAP)

    def _page(self, start: int, cutoffs: Mapping[str, int], holds: list[Hold]) -> list[Candidate]:
        c = audit_entries.c
        is_due = sa.or_(*(sa.and_(c.kind == k, c.time < us) for k, us in cutoffs.items()))
        body = c.body if holds else sa.case((c.kind == "issuance", c.body)).label("body")
        query = (
            sa.select(c.leaf_index, c.time, c.kind, body)
            .where(c.leaf_index >= start, c.leaf_index < self.end, c.body.is_not(None), is_due)
            .order_by(c.leaf_index)
            .limit(PAGE)
        )
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        return [Candidate(row.leaf_index, row.time, row.kind, row.body) for row in rows]

    def _first_after(self, time_us: int) -> int:
        """Return the first index whose entry, and all after it, are as new as `time_us`.

        Where times are not in order it is one of the places where they cross it.
        """
        c = audit_entries.c
        with reading(self.engine) as connection:
            low, high = 0, read_frontier(connection).size
            while low < high:
                middle = (low + high) // 2
                query = sa.select(c.time).where(c.leaf_index == middle)
                time = connection.execute(query).scalar_one_or_none()
                if time is not None and time < time_us:
                    low = middle + 1
                else:
                    high = middle
        return low


def _counted(candidates: list[Candidate]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in candidates:
        counts[one.kind] = counts.get(one.kind, 0) + 1
    return counts


@dataclass(slots=True)
class Preview:
    """What a walk would do: counts by kind."""

    due: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)


def preview(engine: sa.Engine, rules: Rules, now: datetime) -> Preview:
    """Return how many entries of each kind would be redacted now, and how many are spared."""
    seen = Preview()
    for page in Expired(engine, rules, now).pages():
        for counts, more in (
            (seen.due, _counted(list(page.due))),
            (seen.held, page.held),
            (seen.live, page.live),
        ):
            for kind, count in more.items():
                counts[kind] = counts.get(kind, 0) + count
    return seen
