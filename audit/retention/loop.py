"""Redacting what has expired, once an hour, by the one replica that holds the name.

Rules. What is redacted is gone, so a clock that jumped must not decide: nothing is redacted in the
first hour of a process, nor in an hour in which the clock went otherwise than time does.
A batch is a transaction; between two others write. Whatever ends the process ends it between two
batches or within one, which is then rolled back: the next walk begins where bodies are left.
A batch with an entry that is not as it was written stays whole, each time, and is a failure of
this loop; the rest of the log is redacted.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

import sqlalchemy as sa

from audit.retention.expiry import Expired, Found
from audit.retention.holds import read_holds
from audit.retention.partitions import make_partitions
from audit.retention.redaction import BATCH, Candidate, Redact
from audit.retention.rules import Rules
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import EvidenceBroken, Overloaded, StoreUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks

LOOK_SECONDS: Final = 3600.0
PAUSE_SECONDS: Final = 0.05
DRIFT_SECONDS: Final = 60.0
LOOP: Final = "retention"
LOCK_NAME: Final = "audit-retention"

log = get_logger("audit")


@dataclass(slots=True, kw_only=True)
class Retention:
    """Redacts by `rules` and makes partitions ahead; `run` is its loop."""

    engine: sa.Engine
    writer: GroupWriter
    locks: NameLocks
    clock: Clock
    metrics: Metrics
    rules: Rules
    _start: int = 0
    _basis: tuple[str, ...] = ()
    _looked: tuple[datetime, float] | None = None

    async def prepare(self) -> None:
        """Make partitions before much is appended; what hinders it now is left to the loop."""
        try:
            await asyncio.to_thread(make_partitions, self.engine, self.clock.now())
        except StoreUnavailable as error:
            log.warning("partitions_put_off", error=str(error))

    async def run(self) -> None:
        """Look once an hour, until cancelled."""
        while True:
            try:
                await self.look()
            except (EvidenceBroken, Overloaded, StoreUnavailable) as error:
                self.metrics.loop_failures.labels(LOOP).inc()
                log.warning("retention_put_off", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> int:
        """Make partitions and redact what is due, if nobody else does; return how many entries.

        Raises StoreUnavailable, Overloaded, and EvidenceBroken if the log's head is none.
        """
        now = self.clock.now()
        is_steady = self._is_steady(now)
        if not await asyncio.to_thread(self.locks.hold, LOCK_NAME):
            return 0
        await asyncio.to_thread(make_partitions, self.engine, now)
        return await self._redact_due(now) if is_steady else 0

    def _is_steady(self, now: datetime) -> bool:
        """Return whether, since the last look, the clock went as time does."""
        passed = self.clock.monotonic()
        before, self._looked = self._looked, (now, passed)
        if before is None:
            return False
        drift = (now - before[0]).total_seconds() - (passed - before[1])
        if abs(drift) > DRIFT_SECONDS:
            log.warning("retention_put_off", error=f"the clock was set by {drift:.0f} s")
        return abs(drift) <= DRIFT_SECONDS

    async def _redact_due(self, now: datetime) -> int:
        basis = await asyncio.to_thread(self._basis_now)
        if basis != self._basis:
            self._start, self._basis = 0, basis
        walk = Expired(self.engine, self.rules, now, self._start)
        pages = walk.pages()
        count = spared = refused = 0
        while (page := await asyncio.to_thread(_next, pages)) is not None:
            spared += sum(page.live.values())
            for batch in _batches(page.due):
                try:
                    count += await self._redact(batch)
                except EvidenceBroken as error:
                    refused += 1
                    self._refuse(batch, error)
        if not spared + refused:  # what a live certificate kept is not held: look there again
            self._start = walk.next_start
        if count:
            log.info("redacted", entries=count)
        return count

    def _refuse(self, batch: tuple[Candidate, ...], error: EvidenceBroken) -> None:
        """Say that `batch` stays, since redacting it would hide what was done to an entry."""
        self.metrics.loop_failures.labels(LOOP).inc()
        log.error("redaction_refused", entry=error.index, kept=len(batch), error=str(error))

    async def _redact(self, batch: tuple[Candidate, ...]) -> int:
        if not await asyncio.to_thread(self.locks.hold, LOCK_NAME):
            raise StoreUnavailable("another replica redacts now")
        now = self.clock.now()
        rules = self.rules
        await self.writer.submit(Redact(now, batch, rules.cutoffs(now), rules.as_text()))
        await asyncio.sleep(PAUSE_SECONDS)
        return len(batch)

    def _basis_now(self) -> tuple[str, ...]:
        return tuple(hold.name for hold in read_holds(self.engine))


def _next(pages: Iterator[Found]) -> Found | None:
    return next(pages, None)


def _batches(due: tuple[Candidate, ...]) -> Iterator[tuple[Candidate, ...]]:
    rest = iter(Candidate(one.index, one.time_us, one.kind) for one in due)
    while batch := tuple(islice(rest, BATCH)):
        yield batch
