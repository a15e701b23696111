"""Which entries may be without their body: those that a later `redaction` entry names. Pure.

    {"ranges": [[first, last], ...], "kinds": {kind: count}, "rules": {...}, "columns_sha256": hex}

Whoever blanks a body in the database without such an entry is found by this; whoever adds such an
entry, too, has put on record what he did, under the next checkpoint. What is left of a redacted
entry beside its leaf hash, its time and its kind, no leaf protects any more: `columns_digest`
does, from the redaction entry.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
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


def union(ranges: Iterable[Range]) -> list[Range]:
    """Return the ranges that cover what `ranges` cover, in order, and do not touch."""
    joined: list[Range] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined


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
    ranges: tuple[Range, ...]
    kinds: Mapping[str, int]
    columns_sha256: str

    @property
    def count(self) -> int:
        """Return how many entries it names."""
        return sum(last - first + 1 for first, last in self.ranges)


def parse_redaction(index: int, document: Mapping[str, Any]) -> Redaction:
    """Return what the body at `index` says; raises EvidenceBroken if that cannot be so."""
    try:
        details = document["details"]
        redaction = Redaction(
            index,
            tuple((int(first), int(last)) for first, last in details["ranges"]),
            {str(kind): int(count) for kind, count in details["kinds"].items()},
            str(details["columns_sha256"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvidenceBroken(index, f"entry {index} is no redaction: {error!r}") from error
    _check(redaction)
    return redaction


def _check(redaction: Redaction) -> None:
    index, before = redaction.index, -1
    for first, last in redaction.ranges:
        if not before < first <= last < index:
            raise EvidenceBroken(index, f"entry {index} redacts what is not before it")
        before = last
    if redaction.count != sum(redaction.kinds.values()):
        raise EvidenceBroken(index, f"entry {index} counts other entries than it redacts")


@dataclass(slots=True)
class Coverage:
    """Hears of every entry in the order of the log; `check` says whether all was well.

    Memory grows with the ranges of redacted entries, not with their number.
    """

    blank: list[Range] = field(default_factory=list)
    redactions: list[Redaction] = field(default_factory=list)

    def heed(self, index: int, kind: str, body: bytes | None) -> None:
        """Take note of entry `index`, whose `kind` is that of its body, if it has one.

        Raises EvidenceBroken for a redaction that redacts what is not before it.
        """
        if body is None:
            if kind == REDACTION:
                raise EvidenceBroken(index, f"entry {index} is a redaction, and was blanked")
            if self.blank and self.blank[-1][1] == index - 1:
                self.blank[-1] = (self.blank[-1][0], index)
            else:
                self.blank.append((index, index))
        elif kind == REDACTION:
            self.redactions.append(parse_redaction(index, orjson.loads(body)))

    def uncovered(self) -> list[Range]:
        """Return the ranges of entries without a body that no redaction names."""
        covered = union(r for redaction in self.redactions for r in redaction.ranges)
        return list(subtract(self.blank, covered))

    def check(self) -> None:
        """Raise EvidenceBroken naming the first entry that was blanked without a redaction."""
        if uncovered := self.uncovered():
            index = uncovered[0][0]
            message = f"the body of entry {index} is gone, and no redaction entry says so"
            raise EvidenceBroken(index, message)


def subtract(ranges: Sequence[Range], covered: Sequence[Range]) -> Iterable[Range]:
    """Yield what of `ranges` is not in `covered`; both are in order and do not overlap."""
    position = 0
    for first, last in ranges:
        while position < len(covered) and covered[position][1] < first:
            position += 1
        at = position
        while first <= last and at < len(covered) and covered[at][0] <= last:
            start, stop = covered[at]
            if first < start:
                yield first, start - 1
            first = max(first, stop + 1)
            at += 1
        if first <= last:
            yield first, last
