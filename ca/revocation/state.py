"""What is revoked and who is banned, as this process knows it: in memory, in step with the tables.

Issuance, doors and revocation lists ask here. Everything is loaded before a door opens; a change by
this process is known when its operation returns, and one by another replica as soon as it is heard
of. What cannot be read leaves what is known: nothing is ever forgotten for want of a database.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

from ca.revocation.store import Ban, Revocation, Revocations
from identity.caller import Caller
from meshca.clock import Clock
from meshca.errors import IdentityForbidden, MeshcaError, ProofRefused
from meshca.logs import get_logger

TICK_SECONDS: Final = 5.0
_SET_BACK: Final = timedelta(seconds=1)
"""A clock that went back by more was set."""
_BY: Final = (
    "token_id",
    "pod_uid",
    "spiffe_id",
    "node",
    "service_account",
    "namespace",
    "cluster",
)
"""The fields by which bans are found: the first that a ban says."""

log = get_logger("ca")


@dataclass(slots=True, kw_only=True)
class RevocationState:
    """Revoked certificates that have not ended, and bans that hold; `run` keeps it in step."""

    revocations: Revocations
    clock: Clock
    revision: int = 0
    _by_serial: dict[str, Revocation] = field(default_factory=dict)
    _by_authority: dict[str, dict[str, Revocation]] = field(default_factory=dict)
    _digests: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    _bans: Sequence[Ban] = ()
    _banned: dict[tuple[str, str], list[Ban]] = field(default_factory=dict)
    _subscribers: list[Callable[[], None]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _loading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _loaded_at: datetime = datetime.min.replace(tzinfo=UTC) + _SET_BACK

    def subscribe(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the event loop after each change."""
        self._subscribers.append(callback)

    def of_authority(self, authority_id: str) -> Mapping[str, Revocation]:
        """Return what is revoked of the certificates of an authority, by serial (hex)."""
        return self._by_authority.get(authority_id, {})

    def live(self) -> Mapping[str, Revocation]:
        """Return everything that is revoked and has not ended, by serial (hex)."""
        return self._by_serial

    @property
    def bans(self) -> Sequence[Ban]:
        """Return the bans that held when they were last read."""
        return self._bans

    def digests(self) -> Mapping[str, frozenset[str]]:
        """Return the SHA-256 of what is revoked, by SPIFFE ID; the same object until it changes."""
        return self._digests

    def check_serial(self, serial: str) -> None:
        """Raise ProofRefused when the certificate with `serial` (hex) is revoked."""
        found = self._by_serial.get(serial)
        if found is not None:
            raise ProofRefused(
                "revoked", f"serial {serial} was revoked at {found.revoked_at.isoformat()}"
            )

    def check_caller(self, caller: Caller) -> None:
        """Raise IdentityForbidden when `caller` is banned."""
        if not self._banned:
            return
        ban = self.ban_of(caller)
        if ban is not None:
            until = "for good" if ban.until is None else f"until {ban.until.isoformat()}"
            raise IdentityForbidden(
                "banned",
                f"{caller.spiffe_id} is banned {until} by {ban.actor}: {ban.why} (ban {ban.ban})",
            )

    def ban_of(self, caller: Caller) -> Ban | None:
        """Return a ban that holds for `caller`, or None."""
        now = self.clock.now()
        for name in _BY:
            value = str(caller.spiffe_id) if name == "spiffe_id" else getattr(caller.evidence, name)
            for ban in self._banned.get((name, value), ()):
                if ban.holds(now) and ban.selector.admits(caller):
                    return ban
        return None

    async def load(self) -> None:
        """Take what has changed in the tables; raises StoreUnavailable."""
        async with self._loading:
            now = self.clock.now()
            # Once the clock was set back, what had ended may not have: all of it is read again.
            known = self.revision if now >= self._loaded_at - _SET_BACK else 0
            changes = await asyncio.to_thread(self.revocations.after, known, now=now)
            bans = await asyncio.to_thread(self.revocations.bans, now)
            is_news = bool(changes) or bans != self._bans
            touched = {change.spiffe_id for change in changes}
            for change in changes:
                self._take(change)
            self._set_bans(bans)
            touched |= self._forget_ended(now)
            self._loaded_at = now
            self._count_digests(touched)
        if is_news:
            for callback in tuple(self._subscribers):
                callback()

    def heed(self) -> None:
        """Look again soon: somebody has revoked or banned."""
        self._changed.set()

    async def run(self) -> None:
        """Keep in step until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self.load()
            except MeshcaError as error:
                log.warning("revocations_not_read", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._changed.wait()

    def _count_digests(self, touched: set[str]) -> None:
        """Make the digests of the identities in `touched` anew."""
        if not touched:
            return
        found: dict[str, set[str]] = {}
        for revoked in self._by_serial.values():
            if revoked.spiffe_id in touched and revoked.fingerprint:
                found.setdefault(revoked.spiffe_id, set()).add(revoked.fingerprint)
        kept = {name: digests for name, digests in self._digests.items() if name not in touched}
        fresh = {name: frozenset(digests) for name, digests in found.items()}
        self._digests = MappingProxyType({**kept, **fresh})

    def _take(self, change: Revocation) -> None:
        self.revision = max(self.revision, change.revision)
        of_authority = self._by_authority.setdefault(change.authority_id, {})
        if change.released_at is not None:
            self._by_serial.pop(change.serial, None)
            of_authority.pop(change.serial, None)
        else:
            self._by_serial[change.serial] = change
            of_authority[change.serial] = change

    def _set_bans(self, bans: Sequence[Ban]) -> None:
        self._bans, self._banned = bans, {}
        for ban in bans:
            said = ban.selector.given()
            name = next(name for name in _BY if name in said)
            self._banned.setdefault((name, said[name]), []).append(ban)

    def _forget_ended(self, now: datetime) -> set[str]:
        """Forget what has ended; return whose it was."""
        touched = set()
        for serial in [s for s, r in self._by_serial.items() if r.not_after <= now]:
            ended = self._by_serial.pop(serial)
            self._by_authority[ended.authority_id].pop(serial, None)
            touched.add(ended.spiffe_id)
        return touched
