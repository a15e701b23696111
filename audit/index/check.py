"""Holding the index to the log: whether each segment is what its entries make of it.

Whoever can write the database can take entries out of the index, and so out of answers and counts:
no proof of the log notices. Here each segment is made again, of its entries, and compared. That
these are as they were logged is for `audit.examination` to say, and is to be asked first.

A segment in which was redacted, and that waits to be built again, may know more than its entries;
never less. A segment that is none of the log's, and one whose entries another has too, is wrong.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from audit.index.blocks import decode_list, find_list, lists_of
from audit.index.building import (
    LARGE,
    SMALL,
    SMALL_BITS,
    Built,
    build_small,
    merge_blocks,
    merge_times,
    merge_values,
)
from audit.index.rows import read_rows
from audit.index.search import Snapshot, snapshot
from audit.index.tables import Segment, read_blocks, read_times, read_values
from meshca.errors import Conflict


@dataclass(frozen=True, slots=True)
class Checked:
    """A segment, and what is wrong with it; empty if it is what its entries make of it."""

    segment: Segment
    problem: str


def check_index(engine: sa.Engine) -> Iterator[Checked]:
    """Yield each segment that there was when it began, checked; off the event loop.

    Each is looked at in a transaction of its own. Raises StoreUnavailable.
    """
    seen: set[int] = set()
    size: int | None = None
    while True:
        with snapshot(engine) as taken:
            size = taken.size if size is None else size
            left = (s for s in taken.segments if s.id not in seen and s.first < size)
            segment = next(left, None)
            if segment is None:
                return
            checked = Checked(segment, _problem(taken, segment))
        seen.add(segment.id)
        yield checked


def in_short(checked: Iterable[Checked]) -> dict[str, Any]:
    """Return how many segments and entries were checked, and which segments are wrong, as JSON."""
    segments, entries, wrong = 0, 0, []
    for one in checked:
        segments += 1
        entries += one.segment.entries
        if one.problem:
            wrong.append(
                {
                    "segment": one.segment.id,
                    "first_index": one.segment.first,
                    "end_index": one.segment.stop,
                    "problem": one.problem,
                }
            )
    return {"segments": segments, "entries": entries, "wrong": wrong}


def _problem(taken: Snapshot, segment: Segment) -> str:
    if (
        segment.entries not in (SMALL, LARGE)
        or not 0 <= segment.first <= segment.stop <= taken.size
    ):
        return "there are no such entries"
    twice = (s for s in taken.segments if s.first < segment.stop and segment.first < s.stop)
    if any(other.id != segment.id for other in twice):
        return "another segment has entries of it, too"
    try:
        starts = range(segment.first, segment.stop, SMALL)
        parts = [build_small(read_rows(taken.connection, start)) for start in starts]
        return _difference(taken.connection, segment, parts)
    except (Conflict, ValueError, IndexError, TypeError) as error:  # no JSON, or no block
        return f"it cannot be read: {error}"


def _difference(connection: sa.Connection, segment: Segment, parts: Sequence[Built]) -> str:
    times = merge_times([part.times for part in parts])
    if tuple(read_times(connection, [segment.id])[segment.id]) != times:
        return "its times are not those of its entries"
    if (segment.minimum_time, segment.maximum_time) != (min(times), max(times)):
        return "its times are not those of its entries"
    if not segment.redactions and _said(connection, segment) != _plain(
        merge_values([part.values for part in parts])
    ):
        return "its values are not those of its entries"
    for number in range(1 << SMALL_BITS):
        if not _has_blocks(connection, segment, parts, number):
            return "its lists are not those of its entries"
    return ""


def _said(connection: sa.Connection, segment: Segment) -> object:
    return read_values(connection, [segment.id])[segment.id]


def _plain(values: Mapping[str, Sequence[str]]) -> object:
    """Return `values` as they come back from the database."""
    return orjson.loads(orjson.dumps(dict(values)))


def _has_blocks(
    connection: sa.Connection, segment: Segment, parts: Sequence[Built], number: int
) -> bool:
    """Return whether `segment` has what the blocks `number` of its parts become."""
    pieces = [part.blocks[number] for part in parts]
    made = merge_blocks(pieces) if segment.entries == LARGE else pieces
    numbers = range(number * len(made), (number + 1) * len(made))
    stored = read_blocks(connection, [segment.id], numbers)
    for at, block in zip(numbers, made, strict=True):
        held = stored.get((segment.id, at))
        if held == block or (held is None and segment.redactions):
            continue
        if held is None or not segment.redactions or not _has_all(held, block, segment.entries):
            return False
    return True


def _has_all(held: bytes, block: bytes, entries: int) -> bool:
    """Return whether the lists of the block `held` have at least what those of `block` have."""
    for key, encoded in lists_of(block, entries):
        wanted = decode_list(encoded, entries)
        found = find_list(held, key)
        if not found or decode_list(found, entries) & wanted != wanted:
            return False
    return True
