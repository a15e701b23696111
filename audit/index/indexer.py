"""Keeps the index: the replica that holds the name does; the others only look how far it is.

Each step is small, goes through the process's writer, and leaves an index that queries can use. So
nothing is lost by a kill: what was begun is removed, and begun again (audit/index/plan.py). A
replica that lost the name meanwhile publishes nothing: numbers of segments are never used twice.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from audit.index.building import (
    LARGE,
    SMALL,
    SMALL_BITS,
    Built,
    Values,
    build_small,
    merge_blocks,
    merge_times,
    merge_values,
)
from audit.index.plan import Build, Merge, Remove, Work, next_work
from audit.index.rows import read_rows
from audit.index.tables import (
    Blocks,
    Opening,
    Publication,
    Removal,
    Segment,
    Stage,
    read_blocks,
    read_segments,
    read_times,
    read_values,
)
from audit.log import Log
from audit.tree import read_frontier
from meshca.database import GroupWriter, reading
from meshca.errors import Conflict, Unavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks

NAME: Final = "audit-index"
LOOK_SECONDS: Final = 1.0
_ID_BITS: Final = 53

log = get_logger("audit")


class _BlockLost(Exception):
    """A segment has not all of its blocks."""

    def __init__(self, segment: int) -> None:
        super().__init__(f"segment {segment} of the index has lost a block")
        self.segment = segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexer:
    """Brings the index up to the log; `run` is its loop."""

    log: Log
    writer: GroupWriter
    locks: NameLocks
    metrics: Metrics
    look_seconds: float = LOOK_SECONDS

    async def run(self) -> None:
        """Keep the index until cancelled; a database that is away is waited for."""
        while True:
            try:
                await self.look()
            except (Unavailable, Conflict) as error:
                log.warning("audit_index_interrupted", error=str(error))
            await asyncio.sleep(self.look_seconds)

    async def look(self) -> None:
        """Do all there is to do, if this replica keeps the index.

        Raises Unavailable, and Conflict if entries were redacted meanwhile.
        """
        is_ours = await asyncio.to_thread(self.locks.hold, NAME)
        while True:
            segments, size = await asyncio.to_thread(self._read)
            indexed = sum(s.entries for s in segments if s.stage is Stage.published)
            self.metrics.audit_index_lag.set(max(size - indexed, 0))
            work = next_work(segments, size) if is_ours else None
            if work is None:
                return
            await self._do(work, secrets.randbits(_ID_BITS))

    def _read(self) -> tuple[list[Segment], int]:
        with reading(self.log.engine) as connection:
            return read_segments(connection), read_frontier(connection).size

    async def _do(self, work: Work, number: int) -> None:
        if isinstance(work, Remove):
            await self.writer.submit(Removal(work.segments))
        elif isinstance(work, Merge):
            await self._merge(work, number)
        elif work.entries == SMALL:
            await self._build_small(work, number)
        else:
            await self._build_large(work, number)

    async def _build_small(self, work: Build, number: int) -> None:
        opening = Opening(number, work.first, work.entries)
        await self.writer.submit(opening)
        built = await asyncio.to_thread(self._built, work.first)
        publication = Publication(opening, built.times, built.values, work.replaces)
        await self._publish(Blocks(number, 0, built.blocks), publication)

    async def _build_large(self, work: Build, number: int) -> None:
        """Make a large segment of entries, by way of small ones that are never written."""
        opening = Opening(number, work.first, work.entries)
        await self.writer.submit(opening)
        starts = range(work.first, work.first + work.entries, SMALL)
        parts = [await asyncio.to_thread(self._built, start) for start in starts]
        await self._write_blocks(number, lambda block: [part.blocks[block] for part in parts])
        times, values = await asyncio.to_thread(
            _merged, [p.times for p in parts], [p.values for p in parts]
        )
        await self._publish(Publication(opening, times, values, work.replaces))

    async def _merge(self, work: Merge, number: int) -> None:
        opening = Opening(number, work.segments[0].first, LARGE)
        await self.writer.submit(opening)
        ids = [segment.id for segment in work.segments]
        try:
            await self._write_blocks(number, partial(self._blocks, ids))
        except _BlockLost as lost:  # whoever deleted it, the log has the entries
            await self.writer.submit(Removal([number, lost.segment]))
            return
        times, values = await asyncio.to_thread(self._merged_contents, ids)
        publication = Publication(opening, times, values, work.segments)
        await self._publish(publication)

    async def _publish(self, *records: Blocks | Publication) -> None:
        """Submit what ends a segment; Conflict if another replica keeps the index by now."""
        if not await asyncio.to_thread(self.locks.hold, NAME):
            raise Conflict("another replica keeps the index now")
        await self.writer.submit(*records)

    async def _write_blocks(self, number: int, blocks_of: Callable[[int], Sequence[bytes]]) -> None:
        """Write the blocks that the small segments' become, all of one number at a time."""
        for block in range(1 << SMALL_BITS):
            parts = await asyncio.to_thread(blocks_of, block)
            merged = await asyncio.to_thread(merge_blocks, parts)
            await self.writer.submit(Blocks(number, block * len(merged), merged))

    def _built(self, first: int) -> Built:
        """Return the small segment of the entries from `first` on."""
        with reading(self.log.engine) as connection:
            rows = read_rows(connection, first)
        return build_small(rows)

    def _blocks(self, segments: Sequence[int], block: int) -> list[bytes]:
        with reading(self.log.engine) as connection:
            found = read_blocks(connection, segments, [block])
        for segment in segments:
            if (segment, block) not in found:
                raise _BlockLost(segment)
        return [found[segment, block] for segment in segments]

    def _merged_contents(self, segments: Sequence[int]) -> tuple[Sequence[int], Values]:
        with reading(self.log.engine) as connection:
            times, values = read_times(connection, segments), read_values(connection, segments)
        return _merged([times[one] for one in segments], [values[one] for one in segments])


def _merged(
    times: Sequence[Sequence[int]], values: Sequence[Values]
) -> tuple[Sequence[int], Values]:
    """Return the times and values of a large segment; many values take a while."""
    return merge_times(times), merge_values(values)
