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
TIDIED_EVERY: Final = timedelta(minutes=1)
KEPT_AFTER_END: Final = timedelta(hours=1)
"""For verifiers whose clock is behind ours."""
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

_NEVER: Final = datetime.min.replace(tzinfo=UTC)

log = get_logger("ca")


@dataclass(slots=True, kw_only=True)
class RevocationState:
    """Revoked certificates that have not ended, and bans that hold; `run` keeps it in step."""

    revocations: Revocations
    clock: Clock
    revision: int = 0
    _by_serial: dict[str, Revocation] = field(default_factory=dict)
    _by_authority: dict[str, dict[str, Revocation]] = field(default_factory=dict)
    _fingerprints: dict[str, set[str]] = field(default_factory=dict)
    _tidied_at: datetime = _NEVER
    _digests: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    _bans: Sequence[Ban] = ()
    _banned: dict[str, dict[str, list[Ban]]] = field(default_factory=dict)
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
        ban = self.ban_of(caller)
        if ban is not None:
            until = "for good" if ban.until is None else f"until {ban.until.isoformat()}"
            raise IdentityForbidden(
                "banned",
                f"{caller.spiffe_id} is banned {until} by {ban.actor}: {ban.why} (ban {ban.ban})",
            )

    def ban_of(self, caller: Caller) -> Ban | None:
        """Return a ban that holds for `caller`, or None.

        Every caller of every stream is looked at after each change: only by what some ban says.
        """
        for name, banned in self._banned.items():
            value = str(caller.spiffe_id) if name == "spiffe_id" else getattr(caller.evidence, name)
            for ban in banned.get(value, ()):
                if ban.holds(self.clock.now()) and ban.selector.admits(caller):
                    return ban
        return None

    async def load(self) -> None:
        """Take what has changed in the tables; raises StoreUnavailable."""
        async with self._loading:
            now = self.clock.now()
            # Once the clock was set back, what had ended may not have: all of it is read again.
            known = self.revision if now >= self._loaded_at - _SET_BACK else 0
            changes, bans = await asyncio.to_thread(self._read, known, now)
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

    def _read(self, known: int, now: datetime) -> tuple[list[Revocation], list[Ban]]:
        return self.revocations.after(known, now=now), self.revocations.bans(now)

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
        digests = dict(self._digests)
        for name in touched:
            found = self._fingerprints.get(name)
            if found:
                digests[name] = frozenset(found)
            else:
                digests.pop(name, None)
        self._digests = MappingProxyType(digests)

    def _take(self, change: Revocation) -> None:
        self.revision = max(self.revision, change.revision)
        self._let_go(change.serial)
        if change.released_at is None:
            self._by_serial[change.serial] = change
            self._by_authority.setdefault(change.authority_id, {})[change.serial] = change
            if change.fingerprint:
                self._fingerprints.setdefault(change.spiffe_id, set()).add(change.fingerprint)

    def _let_go(self, serial: str) -> None:
        known = self._by_serial.pop(serial, None)
        if known is None:
            return
        self._by_authority[known.authority_id].pop(serial, None)
        mine = self._fingerprints.get(known.spiffe_id)
        if mine is not None:
            mine.discard(known.fingerprint)
            if not mine:
                del self._fingerprints[known.spiffe_id]

    def _set_bans(self, bans: Sequence[Ban]) -> None:
        banned: dict[str, dict[str, list[Ban]]] = {name: {} for name in _BY}
        for ban in bans:
            said = ban.selector.given()
            name = next(name for name in _BY if name in said)
            banned[name].setdefault(said[name], []).append(ban)
        self._bans = bans
        self._banned = {name: by_value for name, by_value in banned.items() if by_value}

    def _forget_ended(self, now: datetime) -> set[str]:
        """Forget what ended long ago, now and then; return whose it was."""
        if abs(now - self._tidied_at) < TIDIED_EVERY:
            return set()
        self._tidied_at = now
        ended = [r for r in self._by_serial.values() if r.not_after <= now - KEPT_AFTER_END]
        for revocation in ended:
            self._let_go(revocation.serial)
        return {revocation.spiffe_id for revocation in ended}
