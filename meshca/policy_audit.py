"""What the audit log knows of changes of policy that nobody made through a door of ours.

One that a running server sees is written again and again until it is. One that happened while no
server ran is found at start: by the version in force, which every start, stop and change of policy
has recorded; which documents differ is then not known.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from audit.entry import Entry
from audit.milestones import newest
from authz.sources import PolicyLoader, SourceChange
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import MeshcaError
from meshca.logs import get_logger

log = get_logger("meshca")

RETRY_SECONDS: Final = 1.0
MAXIMUM_WAITING: Final = 200
"""Entries that wait for the database; beyond them the oldest becomes a gap."""

_KINDS: Final = ("policy_change", "server_start", "server_stop")


@dataclass(slots=True)
class SourceChanges:
    """Writes changes that came from outside, in their order, until they are written.

    What still waits when the server stops is left to the next start. `lose` is told of what found
    no room to wait.
    """

    writer: GroupWriter
    clock: Clock
    lose: Callable[[str], None] = lambda _what: None
    retry_seconds: float = RETRY_SECONDS
    _waiting: deque[Entry] = field(default_factory=deque)
    _writing: "asyncio.Task[None] | None" = None

    def tell(self, told: SourceChange) -> None:
        """Write `told` soon; on the event loop."""
        entry = Entry(
            time=self.clock.now(),
            kind="policy_change",
            outcome="done",
            actor=told.origin,
            policy=told.change.only,
            reason=str(told.change),
            details=told.change.recorded(told.diff),
        )
        if len(self._waiting) >= MAXIMUM_WAITING:
            lost = self._waiting.popleft()
            self.lose(lost.kind)
            log.error("not_recorded", what="policy change", change=lost.reason, time=str(lost.time))
        self._waiting.append(entry)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while self._waiting:
            entry = self._waiting[0]
            try:
                await self.writer.submit(entry)
            except MeshcaError as error:
                log.error("not_recorded_yet", what="policy change", error=str(error))
                await asyncio.sleep(self.retry_seconds)
            else:
                if self._waiting and self._waiting[0] is entry:
                    self._waiting.popleft()


def policy_details(loader: PolicyLoader) -> dict[str, Any]:
    """Return what an entry of start or stop says of policy: its version, and from where it is."""
    return {
        "policy_version": loader.state.current.version,
        "policy_sources": [source.name for source in loader.sources()],
    }


def missed_change(loader: PolicyLoader, engine: sa.Engine, clock: Clock) -> list[Entry]:
    """Return the entry of a change that happened while no server ran, if there was one; blocking.

    Raises StoreUnavailable.
    """
    before = _last_recorded(engine)
    after = loader.state.current.version
    if before is None or _own(before) == _own(after):
        return []
    return [
        Entry(
            time=clock.now(),
            kind="policy_change",
            outcome="done",
            actor="meshca",
            reason="found changed at start",
            details={"before": before, "after": after, **policy_details(loader)},
        )
    ]


def _last_recorded(engine: sa.Engine) -> str | None:
    """Return the version that the newest entry about it names; None when it names none."""
    for stored in newest(engine, *_KINDS):
        document = stored.document() or {}
        if document.get("outcome") == "done":
            details = document.get("details", {})
            version = details.get("policy_version", details.get("after"))
            return version if isinstance(version, str) else None
    return None


def _own(version: str) -> str:
    """Return the version without what is laid over it: that has entries of its own."""
    return version.partition("+")[0]
