"""What to do next so that the index is whole: a pure function of its segments and the log's size.

Remove what was begun and never published, or replaced; build again what was redacted in; make a
large segment of sixty-four small ones; index what comes next, much at a time if there is much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from audit.index.building import LARGE, SMALL
from audit.index.tables import Segment, Stage

_REMOVED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove these segments."""

    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Build:
    """Make a segment of entries, in place of those in `replaces`."""

    first: int
    entries: int
    replaces: tuple[Segment, ...] = ()


@dataclass(frozen=True, slots=True)
class Merge:
    """Make a large segment of these small ones."""

    segments: tuple[Segment, ...]


Work = Remove | Build | Merge


def next_work(segments: Sequence[Segment], size: int) -> Work | None:
    """Return what to do first; None when the index has all that it can have.

    `segments` are in the order of the log, which has `size` entries.
    """
    left = [s.id for s in segments if s.stage is not Stage.published or s.stop > size]
    if left:
        return Remove(tuple(left[:_REMOVED_AT_ONCE]))
    if twice := [after.id for before, after in pairwise(segments) if after.first < before.stop]:
        return Remove(tuple(twice[:_REMOVED_AT_ONCE]))
    for segment in segments:
        if segment.redactions:
            return Build(segment.first, segment.entries, (segment,))
    return _merge(segments) or _build(segments, size)


def _merge(segments: Sequence[Segment]) -> Merge | None:
    run: list[Segment] = []
    for segment in segments:
        if segment.first % LARGE == 0 or (run and run[-1].stop != segment.first):
            run = []
        if segment.entries == SMALL and (run or segment.first % LARGE == 0):
            run.append(segment)
        if len(run) == LARGE // SMALL:
            return Merge(tuple(run))
    return None


def _build(segments: Sequence[Segment], size: int) -> Build | None:
    first, room = _gap(segments, size)
    if first % LARGE == 0 and room >= LARGE:
        return Build(first, LARGE)
    return Build(first, SMALL) if room >= SMALL else None


def _gap(segments: Sequence[Segment], size: int) -> tuple[int, int]:
    """Return where entries begin that are in no segment, and how many."""
    end = 0
    for segment in segments:
        if segment.first > end:
            return end, segment.first - end
        end = segment.stop
    return end, size - end
