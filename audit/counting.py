"""Counting entries, by the values of a field if one is named: as far as can be from the index.

A segment that names the values of the field has them counted without a body being read; of others,
and of what the index is not sure of, bodies are read, newest first, and a bounded number of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import chain, islice
from operator import or_
from typing import Final

from audit.index.blocks import positions_down
from audit.index.building import VALUED
from audit.index.search import Candidates, Snapshot, when
from audit.index.tables import Segment, read_values
from audit.index.terms import key_of
from audit.matching import Wanted

MAXIMUM_READ: Final = 100_000
"""Entries that one count reads; what is known from the index costs nothing of it."""
_ROWS: Final = 512
_FIRST_SEGMENTS: Final = 4
_SEGMENTS: Final = 64
_TRIED: Final = 32
"""Values seen already that are looked for by name; of more, a segment's own list is read."""

ByValue = Mapping[str, int]
"""Which entries of a segment have a value, as bits."""


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
        while some := list(islice(found, at_once)):
            at_once = _SEGMENTS
            known = {} if self.wanted.text is not None else self._known(some)
            for candidates in some:
                unsure = candidates.unsure
                if candidates.segment is None or candidates.segment.id not in known:
                    unsure |= candidates.sure
                else:
                    self._count_known(candidates.sure, known[candidates.segment.id])
                if not self._count_read(candidates, unsure):
                    return

    def _known(self, some: Sequence[Candidates]) -> dict[int, ByValue]:
        """Return, by segment, which of the sure have each value; not of those without names."""
        sure = {c.segment: c.sure for c in some if c.segment is not None}
        if self.by is None:
            return {segment.id: {} for segment in sure}
        # A list of names is long to read: those that were seen so far are tried first, if few.
        is_worth_it = self.by in VALUED and len(self.counts) <= _TRIED
        tried = [value for value in self.counts if value and is_worth_it]
        found = self._by_value({segment: tried for segment, held in sure.items() if held})
        rest = [s for s, held in sure.items() if held & ~_union(found.get(s.id, {}))]
        named = read_values(self.taken.connection, [s.id for s in rest]) if rest else {}
        values = {s: names for s in rest if (names := named[s.id].get(self.by)) is not None}
        for segment in rest:
            found.pop(segment.id, None)
        return found | self._by_value(values)

    def _by_value(self, values: Mapping[Segment, Sequence[str]]) -> dict[int, ByValue]:
        """Return, by segment, which entries have each of its `values`."""
        assert self.by is not None  # noqa: S101  # nobody asks without
        keys = {key_of(self.by, value): value for value in chain(*values.values())}
        if not keys:
            return {}
        lists = self.taken.lists(list(values), keys)
        return {
            segment: {keys[key]: bits for key, bits in by_key.items() if bits}
            for segment, by_key in lists.items()
        }

    def _count_known(self, held: int, by_value: ByValue) -> None:
        for value, bits in by_value.items():
            self.counts[value] += (held & bits).bit_count()
            held &= ~bits
        self.counts[""] += held.bit_count()

    def _count_read(self, candidates: Candidates, held: int) -> bool:
        """Count those of `held` that match; return False when enough has been read."""
        for indexes in _chunks(candidates.first, held):
            if self._read >= self.maximum_read:
                self.is_exact = False
                return False
            for row in self.taken.rows(indexes, *when([candidates])):
                document = self.wanted.match(row)
                if document is not None:
                    value = "" if self.by is None else document.get(self.by)
                    self.counts[value if isinstance(value, str) else ""] += 1
            self._read += len(indexes)
            self.reached = indexes[-1]
        self.reached = candidates.first
        return True


def _union(by_value: ByValue) -> int:
    return reduce(or_, by_value.values(), 0)


def _chunks(first: int, held: int) -> Iterator[list[int]]:
    """Yield the indexes of `held`, counted from `first`, the newest first."""
    if not held:
        return
    descending = positions_down(held)
    while some := [first + position for position in islice(descending, _ROWS)]:
        yield some
