"""Feeding a collector from the log: in order, in batches, at least once, for ever.

Rules
- One replica feeds a sink: whoever holds the name `audit-sink-NAME`.
- Entries are read from the database behind the cursor (audit/sinks/store.py), and the cursor moves
  once the collector has taken them. After a crash in between they are sent again: their index says
  which they are. Nothing here is in the way of appending or issuing.
- What fails is tried again, after a second at first, at least once a minute, for as long as it
  takes. A collector that refuses a batch gets smaller ones, and in place of an entry that it does
  not take even alone, what a redacted one is: index, kind and leaf hash. That is counted, and an
  entry of kind `gap`. A collector that does not take this either is wrong, not the entry: it waits.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

from audit.entry import Entry
from audit.log import Log, Stored
from audit.sinks.store import Delivered, read_next
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import MeshcaError, Unavailable
from meshca.logs import clip, get_logger
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks

BATCH_ENTRIES: Final = 500
BATCH_BYTES: Final = 1024 * 1024
IDLE_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0
_MOST_DOUBLINGS: Final = 6

log = get_logger("audit")


class BatchRefused(MeshcaError):
    """The collector will not take these entries, however often they are sent."""


class Collector(Protocol):
    """Whoever takes entries."""

    async def take(self, entries: Sequence[Stored]) -> int:
        """Deliver `entries`, and return how many of them the collector threw away.

        Raises Unavailable to be tried again, BatchRefused for what is never taken.
        """
        ...


@dataclass(slots=True, kw_only=True)
class SinkFeed:
    """Feeds one collector; `run` is its loop.

    `begins` says where a sink that never delivered begins: at the first entry, or behind the last.
    """

    name: str
    collector: Collector
    log: Log
    locks: NameLocks
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    begins: Literal["first", "now"] = "first"
    draw: random.Random = field(default_factory=random.SystemRandom)
    _size: int = BATCH_ENTRIES
    _failures: int = 0

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            await asyncio.sleep(await self.step())

    async def step(self) -> float:
        """Deliver the next batch, if it is ours to do; return how long to wait then, in seconds."""
        try:
            if not await asyncio.to_thread(self.locks.hold, f"audit-sink-{self.name}"):
                self._measure(0, ())
                return IDLE_SECONDS
            has_more = await self._deliver()
        except MeshcaError as error:
            return self._failed(error)
        self._failures = 0
        return 0.0 if has_more else IDLE_SECONDS

    async def _deliver(self) -> bool:
        """Deliver one batch; return whether there is more."""
        start = await asyncio.to_thread(read_next, self.log.engine, self.name)
        if start is None:
            start = await self._begin()
        size, entries = await asyncio.to_thread(self._read, start)
        self._measure(size - start, entries)
        if not entries:
            return False
        try:
            lost = await self.collector.take(entries)
        except BatchRefused as error:
            found = await self._take_apart(entries, error)
            if found is None:
                return True
            lost = found
        await self._confirm(entries, lost)
        self._size = min(BATCH_ENTRIES, self._size * 2)
        self._measure(size - entries[-1].index - 1, ())
        return entries[-1].index + 1 < size

    async def _take_apart(self, entries: Sequence[Stored], error: BatchRefused) -> int | None:
        """Return 1 if in place of a single entry what is left without its body was taken.

        None: the next batch is smaller. Raises Unavailable when not even that is taken.
        """
        if len(entries) > 1:
            self._size = max(1, len(entries) // 2)
            return None
        try:
            await self.collector.take([replace(entries[0], body=None)])
        except BatchRefused as again:
            raise Unavailable(f"the collector takes nothing: {again}") from again
        self._size = 1
        log.error(
            "audit_sink_entry_refused",
            sink=self.name,
            index=entries[0].index,
            error=clip(str(error)),
        )
        return 1

    async def _begin(self) -> int:
        """Return where a sink begins that never delivered, and remember it."""
        start = 0
        if self.begins == "now":
            start = (await asyncio.to_thread(self.log.head)).size
        await self.writer.submit(Delivered(self.name, start, self.clock.now()))
        return start

    def _read(self, start: int) -> tuple[int, list[Stored]]:
        """Return the size of the log, and the next batch."""
        size = self.log.head().size
        entries: list[Stored] = []
        total = 0
        for stored in self.log.entries(start, min(size, start + self._size)):
            total += len(stored.body or b"")
            if entries and total > BATCH_BYTES:
                break
            entries.append(stored)
        return size, entries

    async def _confirm(self, entries: Sequence[Stored], lost: int) -> None:
        now = self.clock.now()
        records: list[Delivered | Entry] = [Delivered(self.name, entries[-1].index + 1, now)]
        if lost:
            records.append(self._gap(entries, lost))
        await self.writer.submit(*records)
        self.metrics.sinks.delivered.labels(self.name).inc(len(entries) - lost)
        self.metrics.sinks.lost.labels(self.name).inc(lost)

    def _gap(self, entries: Sequence[Stored], lost: int) -> Entry:
        return Entry(
            time=self.clock.now(),
            kind="gap",
            outcome="failed",
            actor="meshca",
            reason="sink_refused",
            details={
                "what": "delivery",
                "unrecorded": lost,
                "by_reason": {"refused": lost},
                "sink": self.name,
                "first": entries[0].index,
                "last": entries[-1].index,
            },
        )

    def _measure(self, behind: int, entries: Sequence[Stored]) -> None:
        """Say how many entries the collector lacks, and how old the first of them is."""
        self.metrics.sinks.behind.labels(self.name).set(max(0, behind))
        age = self.clock.now().timestamp() - entries[0].time_us / 1_000_000 if entries else 0.0
        self.metrics.sinks.lag_seconds.labels(self.name).set(max(0.0, age))

    def _failed(self, error: MeshcaError) -> float:
        self.metrics.sinks.failures.labels(self.name).inc()
        self._failures += 1
        longest = min(LONGEST_WAIT_SECONDS, 2.0 ** min(self._failures, _MOST_DOUBLINGS))
        log.warning(
            "audit_sink_failed", sink=self.name, failures=self._failures, error=clip(str(error))
        )
        return self.draw.uniform(IDLE_SECONDS, longest)
