"""Counting entries, by the values of a field if one is named: as far as can be from the index.

A segment that names the values of the field has them counted without a body being read; of others,
and of what the index is not sure of, bodies are read, newest first, and a bounded number of them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Final

from audit.index.building import VALUED
from audit.index.search import Candidates, Snapshot, batches
from audit.index.tables import Segment, read_values
from audit.index.terms import key_of
from audit.matching import Wanted

MAXIMUM_READ: Final = 100_000
"""Entries that one count reads; what is known from the index costs nothing of it."""
_ROWS: Final = 512
_FIRST_SEGMENTS: Final = 4
_SEGMENTS: Final = 64
_TRIED: Final = 32
"""Values seen already that are looked for by name, if there are no more."""


@dataclass(slots=True)
class _Told:
    """What the index tells of entries: how many have each value, and of which it does not."""

    counts: Counter[str]
    untold: int


@dataclass(slots=True)
class Tally:
    """Counts what is `wanted`; by the values of `by`, if that is a field ("" is no value)."""

    taken: Snapshot
    wanted: Wanted
    by: str | None = None
    maximum_read: int = MAXIMUM_READ
    counts: Counter[str] = field(default_factory=Counter)
    is_exact: bool = True
    reached: int = 0
    _read: int = 0

    def run(self) -> None:
        """Count from the newest entry to the oldest, or until enough has been read."""
        found = self.taken.candidates(
            self.wanted.keys(), self.wanted.span, is_ascending=False, stop=self.taken.size
        )
        at_once = _FIRST_SEGMENTS
        while self.is_exact and (some := list(islice(found, at_once))):
            at_once = _SEGMENTS
            tried = self._worth_trying()
            told = self._told(some, tried)
            unread = [
                replace(c, sure=0, unsure=c.unsure | t.untold)
                for c, t in zip(some, told, strict=True)
            ]
            self._count_read(unread)
            if not self.is_exact:  # what is older than the last that was read is not counted
                known = [
                    replace(c, sure=c.sure & ~t.untold).within(self.reached, self.taken.size)
                    for c, t in zip(some, told, strict=True)
                ]
                told = self._told(known, tried)
            for each in told:
                self.counts.update(each.counts)

    def _worth_trying(self) -> Sequence[str]:
        """Return values to look for first: a segment's own list is long to read."""
        if self.by not in VALUED or len(self.counts) > _TRIED:
            return ()
        return [value for value, _ in self.counts.most_common() if value]

    def _told(self, some: Sequence[Candidates], tried: Sequence[str]) -> list[_Told]:
        """Return what the index tells of the sure ones of each of `some`."""
        if self.wanted.text is not None:
            return [_Told(Counter(), c.sure) for c in some]
        if self.by is None:
            return [_Told(Counter({"": c.sure.bit_count()}), 0) for c in some]
        held = {c.segment: c.sure for c in some if c.segment is not None and c.sure}
        told = self._by_value(self.by, held, tried)
        nothing = _Told(Counter(), 0)
        return [nothing if c.segment is None else told.get(c.segment, nothing) for c in some]

    def _by_value(
        self, by: str, held: Mapping[Segment, int], tried: Sequence[str]
    ) -> dict[Segment, _Told]:
        told = {segment: _Told(Counter(), bits) for segment, bits in held.items()}
        self._look_for(by, tried, told)
        rest = [segment for segment, each in told.items() if each.untold]
        named = read_values(self.taken.connection, [s.id for s in rest]) if rest else {}
        values = {s: names for s in rest if (names := named[s.id].get(by)) is not None}
        all_values = list(dict.fromkeys(chain(*values.values())))
        for segment in self._look_for(by, all_values, {s: told[s] for s in values}):
            each = told[segment]
            each.counts[""] += each.untold.bit_count()
            each.untold = 0
        return told

    def _look_for(
        self, by: str, values: Sequence[str], told: Mapping[Segment, _Told]
    ) -> Sequence[Segment]:
        """Count the untold that have one of `values`; return the segments that know about those."""
        keys = {key_of(by, value): value for value in values}
        found = self.taken.split({s: each.untold for s, each in told.items()}, list(keys))
        for segment, parts in found.items():
            for key, bits in parts:
                told[segment].counts[keys[key]] += bits.bit_count()
                told[segment].untold &= ~bits
        return list(found)

    def _count_read(self, some: Sequence[Candidates]) -> None:
        """Count those of `some` that match, unless enough has been read."""
        for indexes, low, high in batches(some, _ROWS, _ROWS, is_ascending=False):
            if self._read >= self.maximum_read:
                self.is_exact = False
                return
            for row in self.taken.rows(indexes, low, high):
                document = self.wanted.match(row)
                if document is not None:
                    value = "" if self.by is None else document.get(self.by)
                    self.counts[value if isinstance(value, str) else ""] += 1
            self._read += len(indexes)
            self.reached = indexes[-1]
        self.reached = some[-1].first
