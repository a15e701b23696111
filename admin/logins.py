"""Logins over the network: the first request of a visitor over a connection, or with a token.

A login is recorded before anything of the request happens; if it cannot be, nobody gets in. Those
of applications, which come by the thousand and see no evidence, are recorded without waiting and
within the bounds of refusals, once an hour for each address: a decision needs no database.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol

from cachetools import TLRUCache

from admin.peer import TlsPeer
from admin.visitor import Proof, Visitor
from audit.entry import Entry
from meshca.clock import Clock
from meshca.database import GroupWriter

REMEMBERED_SECONDS: Final = 3_600.0
MAXIMUM_REMEMBERED: Final = 20_000


class Recorder(Protocol):
    """Whoever records within bounds, without waiting."""

    def record(self, entry: Entry) -> None:
        """Record `entry`, or count it."""
        ...


@dataclass(slots=True, kw_only=True)
class Logins:
    """Records logins, each once; belongs to the event loop."""

    writer: GroupWriter
    recorder: Recorder
    clock: Clock
    _greeted: TLRUCache[tuple[str, str, str], bool] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._greeted = TLRUCache(
            MAXIMUM_REMEMBERED,
            ttu=lambda _key, _value, at: at + REMEMBERED_SECONDS,
            timer=self.clock.monotonic,
        )

    async def greet(self, visitor: Visitor, peer: TlsPeer, request_id: str) -> None:
        """Record the login of `visitor`, unless it was; raises StoreUnavailable or Overloaded."""
        if visitor.proof is Proof.SVID and not visitor.is_only_application:
            if visitor.credential not in peer.greeted:
                await self.writer.submit(self._entry(visitor, request_id))
                peer.greeted.add(visitor.credential)
            return
        key = (visitor.actor, visitor.credential, peer.address.rpartition(":")[0])
        if key in self._greeted:
            return
        entry = self._entry(visitor, request_id)
        if visitor.is_only_application:
            self.recorder.record(entry)
        else:
            await self.writer.submit(entry)
        self._greeted[key] = True

    def _entry(self, visitor: Visitor, request_id: str) -> Entry:
        expires = visitor.expires_at
        serial = visitor.caller.certificate_serial if visitor.caller else ""
        return Entry(
            time=self.clock.now(),
            kind="login",
            outcome="done",
            actor=visitor.actor,
            serial=serial,
            request_id=request_id,
            details={
                **visitor.described(),
                "roles": [role.value for role in sorted(visitor.roles)],
                "expires": expires.isoformat() if expires else None,
            },
        )
