"""What the database knows of a serial: was it issued here, and was it revoked?

Asked for once, then kept, least recently used first to go. What was never issued is not kept, so
that strangers who make serials up fill nothing; they wait for two threads of their own, few at a
time, and so many a second. A certificate that has ended is looked up again, once: the state in
memory forgets revocations of what has ended, and the answer about it must not become `good`.
"""

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from cachetools import LRUCache

from ca.ocsp.allowance import Allowance
from ca.ocsp.response import Revoked
from ca.revocation.store import instant, revocations
from ca.store import certificates
from meshca.clock import Clock
from meshca.database import reading
from meshca.errors import Overloaded, StoreUnavailable

MAXIMUM_KEPT: Final = 50_000
MAXIMUM_WAITING: Final = 64
LOOKUPS_PER_SECOND: Final = 500
READ_SECONDS: Final = 3.0
SETTLED_AFTER: Final = timedelta(minutes=10)
"""So long after the end of a certificate no replica, whatever its clock, revokes it any more."""


@dataclass(frozen=True, slots=True)
class Record:
    """A certificate that was issued here, as the database had it at `read_at`.

    `revision` is that of its revocation (ca/revocation/store.py), 0 without one.
    """

    not_after: datetime
    revoked: Revoked | None
    revision: int
    read_at: datetime

    def is_current(self, now: datetime) -> bool:
        """Return whether it says as much as another look would, beside the state in memory."""
        return now < self.not_after or self.read_at >= self.not_after + SETTLED_AFTER


_Key = tuple[str, str]


def _threads() -> Executor:
    return ThreadPoolExecutor(2, thread_name_prefix="ocsp")


@dataclass(slots=True, kw_only=True)
class IssuedSerials:
    """Finds certificates by authority and serial (hex)."""

    engine: sa.Engine
    clock: Clock
    allowance: Allowance = field(init=False)
    _kept: LRUCache[_Key, Record] = field(default_factory=lambda: LRUCache(MAXIMUM_KEPT))
    _pending: dict[_Key, "asyncio.Future[Record | None]"] = field(default_factory=dict)
    _executor: Executor = field(default_factory=_threads)

    def __post_init__(self) -> None:
        self.allowance = Allowance(LOOKUPS_PER_SECOND, self.clock)

    async def find(self, authority_id: str, serial: str) -> Record | None:
        """Return what is known; None when that authority never issued it.

        Raises StoreUnavailable when the database does not answer in time, Overloaded when too much
        is asked.
        """
        key = (authority_id, serial)
        kept = self._kept.get(key)
        if kept is not None and kept.is_current(self.clock.now()):
            return kept
        asked = self._pending.get(key)
        if asked is None:
            asked = self._ask(key)
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await asyncio.shield(asked)
        except TimeoutError as error:
            raise StoreUnavailable("the database does not answer in time") from error

    def _ask(self, key: _Key) -> "asyncio.Future[Record | None]":
        if len(self._pending) >= MAXIMUM_WAITING:
            raise Overloaded("too many OCSP requests wait for the database")
        self.allowance.take()
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._executor, self._read, key)
        self._pending[key] = asked
        asked.add_done_callback(lambda done: self._take(key, done))
        return asked

    def _take(self, key: _Key, done: "asyncio.Future[Record | None]") -> None:
        del self._pending[key]
        if not done.cancelled() and done.exception() is None:
            record = done.result()
            if record is not None:
                self._kept[key] = record

    def _read(self, key: _Key) -> Record | None:
        now = self.clock.now()
        c, r = certificates.c, revocations.c
        query = (
            sa.select(c.not_after, r.revoked_at, r.reason, r.released_at, r.revision)
            .select_from(certificates.outerjoin(revocations, r.serial == c.serial))
            .where(c.serial == key[1], c.authority_id == key[0])
        )
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        is_revoked = row.revoked_at is not None and row.released_at is None
        revoked = Revoked(instant(row.revoked_at), row.reason) if is_revoked else None
        return Record(instant(row.not_after), revoked, row.revision or 0, now)
