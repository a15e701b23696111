"""This replica among the others: its name, its report, who else is there, and who leads.

Rules
- A name is held by one process at a time (meshca/name_locks.py): a second one under the same name
  does not start. A process whose name another holds now must not sign.
- Whoever holds the name `leader` does the work that must happen once: it steps roots, and ends the
  authorities of replicas that are gone. It may be another one a moment later.
- A replica is gone when its name has been free for GONE_SECONDS, without a break, as one other has
  seen it: time enough to come back after the database was away.
"""

import asyncio
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Final

from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import AuthorityUnavailable, Conflict, MeshcaError, StoreUnavailable
from meshca.logs import get_logger
from meshca.name_locks import NameLocks
from rotation.replicas import Gone, Replica, Replicas, Report, Seen

JOIN_SECONDS: Final = 10.0
"""How long a process waits for its name: the one before it may be draining."""
GONE_SECONDS: Final = 60.0
LONGEST_GAP_SECONDS: Final = 15.0
"""Between two looks at whether a name is free: after a longer one it counts from the start."""
SEEN_EVERY: Final = timedelta(seconds=5)
_RETRY_SECONDS: Final = 0.25
_LEADER: Final = "leader"

log = get_logger("rotation")


@dataclass(slots=True, kw_only=True)
class Membership:
    """This replica's place among those that share the database."""

    name: str
    locks: NameLocks
    replicas: Replicas
    writer: GroupWriter
    clock: Clock
    is_leader: bool = False
    others: Sequence[Replica] = ()
    _mine: Replica | None = None
    _free: dict[str, tuple[float, float]] = field(default_factory=dict)

    async def join(self, *, within_seconds: float = JOIN_SECONDS) -> None:
        """Take our name; raises Conflict when another process keeps it, and StoreUnavailable."""
        passed = asyncio.get_running_loop().time
        deadline = passed() + within_seconds
        while not await asyncio.to_thread(self.locks.hold, self._lock_of(self.name)):
            if passed() >= deadline:
                raise Conflict(await self._taken())
            await asyncio.sleep(_RETRY_SECONDS)
        self._mine = None
        await self.report(Report())

    async def _taken(self) -> str:
        known = {r.name: r for r in await asyncio.to_thread(self.replicas.all)}
        other = known.get(self.name)
        where = "" if other is None else f" on {other.host} since {other.started_at.isoformat()}"
        return (
            f"replica {self.name!r} runs already{where}: give each process a name of its own "
            "(`replica` in the configuration, or MESHCA_REPLICA)"
        )

    async def keep_name(self) -> None:
        """Raise AuthorityUnavailable when another process has our name now; see who leads."""
        if not await self._hold(self._lock_of(self.name)):
            self._lead(leads=False)
            raise AuthorityUnavailable(await self._taken())
        self._lead(leads=await self._hold(_LEADER))

    async def _hold(self, lock: str) -> bool:
        """Take or keep a lock; a session that broke is asked about twice: another may have it."""
        try:
            return await asyncio.to_thread(self.locks.hold, lock)
        except StoreUnavailable:
            self._lead(leads=False)
            return await asyncio.to_thread(self.locks.hold, lock)

    def _lead(self, *, leads: bool) -> None:
        if leads != self.is_leader:
            self.is_leader = leads
            self._free.clear()
            log.info("leader", replica=self.name, leads=leads)

    async def report(self, report: Report) -> None:
        """Tell the others `report`, and see theirs."""
        now = self.clock.now()
        if self._is_news(report, now):
            mine = self._replica(report, now)
            await self.writer.submit(Seen(mine))
            self._mine = mine
        known = await asyncio.to_thread(self.replicas.all)
        self.others = tuple(replica for replica in known if replica.name != self.name)

    def _is_news(self, report: Report, now: datetime) -> bool:
        mine = self._mine
        return mine is None or mine.report != report or abs(now - mine.seen_at) >= SEEN_EVERY

    def _replica(self, report: Report, now: datetime) -> Replica:
        if self._mine is not None:
            return replace(self._mine, seen_at=now, report=report)
        return Replica(self.name, platform.node(), version("meshca"), now, now, report)

    async def forget_gone(self) -> None:
        """Remove the replicas whose names have been free for long enough: the leader's work."""
        for other in self.others:
            if await asyncio.to_thread(self.locks.is_held, self._lock_of(other.name)):
                self._free.pop(other.name, None)
            elif self._is_free_for_long(other.name):
                log.warning("replica_gone", replica=other.name, host=other.host)
                await self.writer.submit(Gone(other.name, other.seen_at))
                del self._free[other.name]
        for name in self._free.keys() - {other.name for other in self.others}:
            del self._free[name]

    def _is_free_for_long(self, name: str) -> bool:
        """Note that a name is free now; return whether it was for GONE_SECONDS without a break."""
        now = self.clock.monotonic()
        since, seen = self._free.get(name, (now, now))
        if now - seen > LONGEST_GAP_SECONDS:
            since = now
        self._free[name] = since, now
        return now - since >= GONE_SECONDS

    async def all(self) -> list[Replica]:
        """Return every member now, ourselves too, by name."""
        return await asyncio.to_thread(self.replicas.all)

    async def names(self) -> frozenset[str]:
        """Return the names of the members now, ours too."""
        return frozenset({self.name, *(replica.name for replica in await self.all())})

    async def is_running(self, name: str) -> bool:
        """Return whether a process holds the name `name`."""
        return await asyncio.to_thread(self.locks.is_held, self._lock_of(name))

    async def leave(self) -> None:
        """Say that we end, and let our names go; what fails then is logged: we end all the same."""
        try:
            if await asyncio.to_thread(self.locks.hold, self._lock_of(self.name)):
                await self.writer.submit(Gone(self.name, None))
        except MeshcaError as error:
            log.warning("not_left", replica=self.name, error=str(error))
        finally:
            await asyncio.to_thread(self.locks.close)

    def _lock_of(self, name: str) -> str:
        return f"replica.{name}"
