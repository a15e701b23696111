"""Saying in the log that the wall clock is behind the log: times of entries are not to be trusted.

A clock that is set back, or that runs behind that of another replica, makes entries whose times are
not in the order of their indexes. The index stays right; an entry of kind `clock` says by how much
the time was wrong. It is told when it is further behind than told before, and otherwise at most
every ten minutes.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from audit.entry import Entry
from audit.tree import audit_entries
from meshca.clock import Clock
from meshca.database import GroupWriter, reading
from meshca.errors import MeshcaError
from meshca.logs import get_logger

LOOK_SECONDS: Final = 1.0
TOLERANCE: Final = timedelta(seconds=1)
AGAIN_SECONDS: Final = 600.0
_NEWEST: Final = 64
"""Entries that are looked at: times of some, such as counts, are older than their index."""

log = get_logger("audit")


@dataclass(frozen=True, slots=True)
class _Told:
    newest: datetime
    behind: timedelta
    at: float


@dataclass(slots=True, kw_only=True)
class ClockWatch:
    """Compares our clock with the newest entries; `look` once at start, then `run`."""

    engine: sa.Engine
    writer: GroupWriter
    clock: Clock
    replica: str
    _told: _Told | None = field(init=False, default=None)

    async def run(self) -> None:
        """Look each second, until cancelled."""
        while True:
            try:
                await self.look()
            except MeshcaError as error:  # the next look sees the same
                log.warning("clock_not_compared", error=str(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Write an entry if our clock is behind the log and that was not told yet.

        Raises StoreUnavailable and Overloaded.
        """
        found = await asyncio.to_thread(self._newest)
        now = self.clock.now()
        if found is None or found[1] - now <= TOLERANCE:
            return
        index, newest = found
        told = _Told(newest, newest - now, self.clock.monotonic())
        if self._told is not None and not _is_news(told, self._told):
            return
        log.error("clock_behind_the_log", seconds=told.behind.total_seconds(), entry=index)
        await self.writer.submit(self._entry(told, index, now))
        self._told = told

    def _newest(self) -> tuple[int, datetime] | None:
        c = audit_entries.c
        query = sa.select(c.leaf_index, c.time).order_by(c.leaf_index.desc()).limit(_NEWEST)
        with reading(self.engine) as connection:
            rows = connection.execute(query).all()
        if not rows:
            return None
        latest = max(rows, key=lambda row: row.time)
        return latest.leaf_index, datetime.fromtimestamp(latest.time / 1e6, UTC)

    def _entry(self, told: _Told, index: int, now: datetime) -> Entry:
        return Entry(
            time=now,
            kind="clock",
            outcome="failed",
            actor="meshca",
            reason="behind_the_log",
            details={
                "behind_milliseconds": told.behind // timedelta(milliseconds=1),
                "newest_index": index,
                "newest_time": told.newest.isoformat(),
                "replica": self.replica,
            },
        )


def _is_news(now: _Told, before: _Told) -> bool:
    """Return whether it is further behind than told, or behind entries of long after that."""
    if now.behind > before.behind + TOLERANCE:
        return True
    return now.newest > before.newest and now.at - before.at >= AGAIN_SECONDS
