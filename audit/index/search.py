"""Which entries may match: what the index says of terms and times, over one state of the log.

A snapshot is one transaction: segments, blocks and entries are as they were at one moment, though
segments are merged meanwhile. What the index does not know, it does not deny: entries of no
segment, of one that lost a block, or of one that waits to be built again are candidates, and the
candidate's body decides. What a published segment denies is believed: a forged one hides entries,
which `audit.index.check` notices and no proof of the log does.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa

from audit.index.blocks import decode_list, find_list, positions, positions_down
from audit.index.building import LARGE, LARGE_BITS, SMALL_BITS, TIME_BLOCK
from audit.index.tables import (
    Segment,
    Stage,
    numbers,
    read_blocks,
    read_segments,
    read_times,
)
from audit.index.terms import KEY_BITS
from audit.tree import read_frontier
from meshca.database import reading

_FIRST_SEGMENTS: Final = 4
_MOST_SEGMENTS: Final = 256


@dataclass(frozen=True, slots=True)
class Span:
    """When entries must have been, in microseconds since the epoch; `until` is exclusive."""

    since: int | None = None
    until: int | None = None

    def holds(self, time_us: int) -> bool:
        """Return whether it has that time."""
        return not self.misses(time_us, time_us)

    def misses(self, minimum: int, maximum: int) -> bool:
        """Return whether no time from `minimum` to `maximum` is in it."""
        return (self.since is not None and maximum < self.since) or (
            self.until is not None and minimum >= self.until
        )

    def covers(self, minimum: int, maximum: int) -> bool:
        """Return whether each time from `minimum` to `maximum` is in it."""
        return self.holds(minimum) and self.holds(maximum)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Entries that may match, as bits counted from `first`: `sure` do, the body says of `unsure`.

    `sure` is by the key of 64 bits. `segment` is what they are of, if of any.
    """

    first: int
    entries: int
    sure: int
    unsure: int
    segment: Segment | None

    def within(self, start: int, stop: int) -> "Candidates":
        """Return those from index `start` up to `stop`."""
        if start <= self.first and stop >= self.first + self.entries:
            return self
        # Not of more bits than there are entries: a mask as long as the log takes milliseconds.
        below = _ones(min(max(start - self.first, 0), self.entries))
        mask = _ones(min(max(stop - self.first, 0), self.entries)) & ~below
        sure, unsure = self.sure & mask, self.unsure & mask
        return Candidates(self.first, self.entries, sure, unsure, self.segment)


def _ones(count: int) -> int:
    return (1 << count) - 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The log and its index at one moment; `size` is how many entries the log has."""

    connection: sa.Connection
    size: int
    segments: Sequence[Segment]

    def candidates(
        self, keys: Sequence[int], span: Span, *, is_ascending: bool, start: int = 0, stop: int
    ) -> Iterator[Candidates]:
        """Yield what may have all of `keys`, within `span`, from `start` up to `stop`, in order."""
        pieces = [p for p in self._pieces(start, stop) if not _is_outside(p, span)]
        remaining = iter(pieces if is_ascending else reversed(pieces))
        at_once = _FIRST_SEGMENTS
        while some := list(islice(remaining, at_once)):
            at_once = min(at_once * 4, _MOST_SEGMENTS)
            for found in self._search(some, keys, span):
                narrowed = found.within(start, stop)
                if narrowed.sure or narrowed.unsure:
                    yield narrowed

    def _pieces(self, start: int, stop: int) -> Iterator["Segment | range"]:
        """Yield segments, and ranges that are in none, in the order of the log."""
        end = 0
        for segment in self.segments:
            yield from _cut(max(end, start), min(segment.first, stop))
            if segment.first < stop and segment.stop > start:
                yield segment
            end = max(end, segment.stop)
        yield from _cut(max(end, start), min(self.size, stop))

    def _search(
        self, pieces: Sequence["Segment | range"], keys: Sequence[int], span: Span
    ) -> Iterator[Candidates]:
        segments = [piece for piece in pieces if isinstance(piece, Segment)]
        blocks = self._blocks(segments, keys) if keys else {}
        partly = [s.id for s in segments if not span.covers(s.minimum_time, s.maximum_time)]
        times = read_times(self.connection, partly) if partly else {}
        for piece in pieces:
            if isinstance(piece, range):
                yield Candidates(piece.start, len(piece), 0, _ones(len(piece)), None)
                continue
            held, is_known = _held(piece, keys, blocks)
            inside, partial = _timed(piece, times.get(piece.id), span)
            if piece.redactions or not is_known:
                inside, partial = 0, inside | partial
            yield Candidates(piece.first, piece.entries, held & inside, held & partial, piece)

    def _blocks(
        self, segments: Sequence[Segment], keys: Sequence[int]
    ) -> dict[tuple[int, int], bytes]:
        """Return the blocks of `keys` in `segments`."""
        found: dict[tuple[int, int], bytes] = {}
        for bits in (SMALL_BITS, LARGE_BITS):
            some = [s.id for s in segments if _bits(s) == bits]
            if some:
                wanted = sorted({key >> (KEY_BITS - bits) for key in keys})
                found |= read_blocks(self.connection, some, wanted)
        return found

    def rows(
        self, indexes: Sequence[int], low: int | None, high: int | None
    ) -> Sequence[sa.Row[Any]]:
        """Return the stored entries of `indexes`, ascending; they were between `low` and `high`."""
        first, last = min(indexes), max(indexes)
        wanted = f"leaf_index BETWEEN {first} AND {last}"
        if last - first + 1 != len(indexes):
            wanted = f"leaf_index IN ({numbers(indexes)})"
        if low is not None and high is not None:  # PostgreSQL looks into a partition or two
            wanted += f" AND time BETWEEN {int(low)} AND {int(high)}"
        return self.connection.exec_driver_sql(
            "SELECT leaf_index, time, kind, leaf_hash, body FROM audit_entries"  # noqa: S608  # numbers
            f" WHERE {wanted} ORDER BY leaf_index"
        ).all()

    def split(
        self, held: Mapping[Segment, int], keys: Sequence[int]
    ) -> dict[Segment, list[tuple[int, int]]]:
        """Return, by segment, which of its `held` entries have each of `keys`.

        Each entry is with the first key that it has; when none is left, no key is looked for. A
        segment of which something is not known is left out.
        """
        blocks = self._blocks(list(held), keys) if keys else {}
        found = {segment: _split(segment, bits, keys, blocks) for segment, bits in held.items()}
        return {segment: parts for segment, parts in found.items() if parts is not None}


def when(candidates: Sequence[Candidates]) -> tuple[int | None, int | None]:
    """Return between which times (µs) all of these were; None when that is not known."""
    segments = [c.segment for c in candidates if c.segment is not None]
    if len(segments) < len(candidates):
        return None, None
    return min(s.minimum_time for s in segments), max(s.maximum_time for s in segments)


def batches(
    found: Iterable[Candidates], at_once: int, most: int, *, is_ascending: bool
) -> Iterator[tuple[list[int], int | None, int | None]]:
    """Yield indexes to read together, and when those entries were, as far as that is known.

    First come `at_once`, then `most` at a time, all in the order of `found`.
    """
    in_order = positions if is_ascending else positions_down
    indexes: list[int] = []
    among: list[Candidates] = []
    for candidates in found:
        among.append(candidates)
        for offset in in_order(candidates.sure | candidates.unsure):
            indexes.append(candidates.first + offset)
            if len(indexes) == at_once:
                yield indexes, *when(among)
                indexes, among, at_once = [], [candidates], most
    if indexes:
        yield indexes, *when(among)


@contextlib.contextmanager
def snapshot(engine: sa.Engine) -> Iterator[Snapshot]:
    """Yield what to search in; raises StoreUnavailable if the database is away."""
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with reading(engine) as connection:
        size = read_frontier(connection).size
        published = [s for s in read_segments(connection) if s.stage is Stage.published]
        yield Snapshot(connection, size, published)


def _bits(segment: Segment) -> int:
    return LARGE_BITS if segment.entries == LARGE else SMALL_BITS


def _cut(start: int, stop: int) -> Iterator[range]:
    for first in range(start, stop, LARGE):
        yield range(first, min(first + LARGE, stop))


def _is_outside(piece: "Segment | range", span: Span) -> bool:
    return isinstance(piece, Segment) and span.misses(piece.minimum_time, piece.maximum_time)


def _held(
    segment: Segment, keys: Sequence[int], blocks: dict[tuple[int, int], bytes]
) -> tuple[int, bool]:
    """Return which entries have all `keys`, and whether that is known of each key."""
    held, is_known = _ones(segment.entries), True
    shift = KEY_BITS - _bits(segment)
    for key in keys:
        block = blocks.get((segment.id, key >> shift))
        if block is None:
            is_known = False
            continue
        encoded = find_list(block, key)
        if not encoded:
            return 0, True
        held &= decode_list(encoded, segment.entries)
    return held, is_known


def _split(
    segment: Segment, held: int, keys: Sequence[int], blocks: dict[tuple[int, int], bytes]
) -> list[tuple[int, int]] | None:
    parts: list[tuple[int, int]] = []
    for key in keys:
        if not held:
            break
        bits, is_known = _held(segment, [key], blocks)
        if not is_known:
            return None
        if held & bits:
            parts.append((key, held & bits))
            held &= ~bits
    return parts


def _timed(segment: Segment, times: Sequence[int] | None, span: Span) -> tuple[int, int]:
    """Return which entries are in `span` for sure, and which only may be."""
    if times is None:
        return _ones(segment.entries), 0
    inside = partial = 0
    block = _ones(TIME_BLOCK)
    for number, (low, high) in enumerate(zip(times[::2], times[1::2], strict=True)):
        if span.covers(low, high):
            inside |= block << (number * TIME_BLOCK)
        elif not span.misses(low, high):
            partial |= block << (number * TIME_BLOCK)
    return inside, partial
