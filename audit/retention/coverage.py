"""Which entries may be without their body: those that a later `redaction` entry names. Pure.

    {"ranges": [[first, last], ...], "kinds": {kind: count}, "rules": {...}, "columns_sha256": hex}

Whoever blanks a body in the database without such an entry is found by this; whoever adds such an
entry, too, has put on record what he did, under the next checkpoint. What is left of a redacted
entry beside its leaf hash, its time and its kind, no leaf protects any more: `columns_digest`
does, from the redaction entry.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from heapq import merge
from typing import Any, Final

import orjson

from meshca.errors import EvidenceBroken

REDACTION: Final = "redaction"

Range = tuple[int, int]
"""Indexes from the first to the last, both included."""

Column = tuple[int, int, str]
"""What stays of a redacted entry: index, time in microseconds since the epoch, kind."""


def ranges_of(indexes: Iterable[int]) -> list[Range]:
    """Return `indexes`, in any order, as ranges that do not touch."""
    ranges: list[Range] = []
    for index in sorted(set(indexes)):
        if ranges and ranges[-1][1] == index - 1:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((index, index))
    return ranges


def union(ranges: Iterable[Range]) -> Iterator[Range]:
    """Yield ranges that cover what `ranges`, in order, cover, and that do not touch."""
    joined: Range | None = None
    for first, last in ranges:
        if joined is not None and first <= joined[1] + 1:
            joined = joined[0], max(joined[1], last)
            continue
        if joined is not None:
            yield joined
        joined = first, last
    if joined is not None:
        yield joined


@dataclass(slots=True)
class Ranges:
    """Ranges in order: sixteen bytes each, of which a log may have millions."""

    _ends: "array[int]" = field(default_factory=lambda: array("q"))

    def __iter__(self) -> Iterator[Range]:
        ends = iter(self._ends)
        return zip(ends, ends, strict=True)

    def append(self, first: int, last: int) -> None:
        """Add a range behind the others, or make the last one longer if it touches that."""
        if self._ends and self._ends[-1] == first - 1:
            self._ends[-1] = last
        else:
            self._ends.extend((first, last))


def columns_digest(columns: Iterable[Column]) -> str:
    """Return the hash, in hex, over what stays of redacted entries, in the order of the log."""
    digest = sha256()
    for index, time_us, kind in columns:
        digest.update(f"{index} {time_us} {kind}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Redaction:
    """What one `redaction` entry, at `index`, says."""

    index: int
    ranges: Ranges
    columns_sha256: str


def parse_redaction(index: int, document: Mapping[str, Any]) -> Redaction:
    """Return what the body at `index` says; raises EvidenceBroken if that cannot be so."""
    try:
        details = document["details"]
        pairs = [(int(first), int(last)) for first, last in details["ranges"]]
        counted = sum(int(count) for count in details["kinds"].values())
        digest = str(details["columns_sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceBroken(index, f"entry {index} is no redaction: {error!r}") from error
    ranges, before, count = Ranges(), -1, 0
    for first, last in pairs:
        if not before < first <= last < index:
            raise EvidenceBroken(index, f"entry {index} redacts what is not before it")
        ranges.append(first, last)
        before, count = last, count + last - first + 1
    if count != counted:
        raise EvidenceBroken(index, f"entry {index} counts other entries than it redacts")
    return Redaction(index, ranges, digest)


@dataclass(slots=True)
class Coverage:
    """Hears of every entry in the order of the log; `check` says whether all was well.

    Memory grows with the ranges of redacted entries, not with their number.
    """

    blank: Ranges = field(default_factory=Ranges)
    redactions: list[Redaction] = field(default_factory=list)

    def heed(self, index: int, kind: str, body: bytes | None) -> None:
        """Take note of entry `index`, whose `kind` is that of its body, if it has one.

        Raises EvidenceBroken for a redaction that redacts what is not before it.
        """
        if body is None:
            if kind == REDACTION:
                raise EvidenceBroken(index, f"entry {index} is a redaction, and was blanked")
            self.blank.append(index, index)
        elif kind == REDACTION:
            self.redactions.append(parse_redaction(index, orjson.loads(body)))

    def uncovered(self) -> list[Range]:
        """Return the ranges of entries without a body that no redaction names."""
        covered = union(merge(*(redaction.ranges for redaction in self.redactions)))
        return list(subtract(self.blank, covered))

    def check(self) -> None:
        """Raise EvidenceBroken naming the first entry that was blanked without a redaction."""
        if uncovered := self.uncovered():
            index = uncovered[0][0]
            message = f"the body of entry {index} is gone, and no redaction entry says so"
            raise EvidenceBroken(index, message)


def subtract(ranges: Iterable[Range], covered: Iterable[Range]) -> Iterator[Range]:
    """Yield what of `ranges` is not in `covered`; both are in order and do not overlap."""
    rest = iter(covered)
    cover = next(rest, None)
    for first, last in ranges:
        while first <= last:
            while cover is not None and cover[1] < first:
                cover = next(rest, None)
            if cover is None or last < cover[0]:
                yield first, last
                break
            if first < cover[0]:
                yield first, cover[0] - 1
            first = cover[1] + 1
