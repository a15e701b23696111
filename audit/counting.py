"""Counting entries, by the values of a field if one is named: as far as can be from the index.

A segment that names the values of the field has them counted without a body being read; of others,
and of what the index is not sure of, bodies are read, newest first, and a bounded number of them.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from audit.index.blocks import positions_down
from audit.index.search import Candidates, Snapshot, when
from audit.index.tables import read_values
from audit.index.terms import key_of
from audit.matching import Wanted

MAXIMUM_READ: Final = 100_000
"""Entries that one count reads; what is known from the index costs nothing of it."""
_ROWS: Final = 512


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
        for candidates in found:
            unsure = candidates.unsure
            if self.wanted.text is not None or not self._count_known(candidates):
                unsure |= candidates.sure
            if not self._count_read(candidates, unsure):
                return

    def _count_known(self, candidates: Candidates) -> bool:
        """Count those that are sure without reading them; return whether that could be done."""
        held, segment = candidates.sure, candidates.segment
        if self.by is None or not held:
            self.counts[""] += held.bit_count()
            return True
        if segment is None:
            return False
        values = read_values(self.taken.connection, [segment.id])[segment.id].get(self.by)
        if values is None:
            return False
        keys = {key_of(self.by, value): value for value in values}
        lists = self.taken.lists(segment, keys)
        if lists is None:
            return False
        for key, list_ in lists.items():
            self.counts[keys[key]] += (held & list_).bit_count()
            held &= ~list_
        self.counts[""] += held.bit_count()
        return True

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


def _chunks(first: int, held: int) -> Iterator[list[int]]:
    """Yield the indexes of `held`, counted from `first`, the newest first."""
    if not held:
        return
    descending = positions_down(held)
    while some := [first + position for position in islice(descending, _ROWS)]:
        yield some
