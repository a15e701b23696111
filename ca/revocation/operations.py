"""Revoking, releasing, banning: what an operator may do, each audited with who and why.

    select -> confirm -> decision (open) and ban -> batches of what is hit -> decision closed

A decision that was interrupted is finished by `resume`, at the next start. All of it may be asked
twice: what is revoked stays as it was.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from audit.entry import Entry
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.state import RevocationState
from ca.revocation.store import (
    Ban,
    Closed,
    Decision,
    Lifted,
    Released,
    Revocation,
    Revocations,
    Revoked,
    microseconds,
)
from ca.store import Inventory
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Conflict, NotFound, RequestRefused
from meshca.logs import get_logger
from meshca.spiffe_id import SpiffeId

BATCH: Final = 500
AUDITED_ONE_BY_ONE: Final = 1_000
"""More than so many in one decision share audit entries, by thirty-two."""
_SHARED_ENTRY: Final = 32

log = get_logger("ca")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision hit; `decision` is empty when it hit nothing, or was only rehearsed."""

    decision: str
    hit: Sequence[Revocation]
    ban: Ban | None = None


@dataclass(frozen=True, slots=True)
class BanRequest:
    """Ban who is selected, until a time or for good."""

    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationOperations:
    """The steps of `meshca svid revoke|unrevoke|bans`; `confirm_above` needs the right number."""

    trust_domain: str
    revocations: Revocations
    inventory: Inventory
    state: RevocationState
    writer: GroupWriter
    clock: Clock
    confirm_above: int

    async def rehearse(self, selector: Selector) -> Outcome:
        """Return what `selector` would hit now; raises RequestRefused and NotFound."""
        return Outcome("", await self._select(selector))

    async def revoke(
        self,
        selector: Selector,
        reason: Reason,
        *,
        actor: str,
        why: str,
        confirmed: int | None = None,
        ban: BanRequest | None = None,
    ) -> Outcome:
        """Revoke every certificate that `selector` hits, and ban whom it selects if asked.

        Raises RequestRefused for what cannot be meant, NotFound for a serial that was never issued,
        Conflict for one that has ended, and when more are hit than may be without `confirmed`.
        """
        now = self.clock.now()
        banned = None if ban is None else self._make_ban(selector, ban, actor, why, now)
        hit = await self._select(selector)
        self._check_number(len(hit), confirmed)
        if not hit and banned is None:
            return Outcome("", ())
        name = f"{microseconds(now):x}-{secrets.token_hex(4)}"
        decision = Decision(name, now, actor, why, reason, selector, len(hit))
        records: list[object] = [decision]
        if banned is not None:
            records += [banned, _ban_entry(banned, "banned", actor, why, now)]
        await self.writer.submit(*records)
        if banned is not None:
            await self.state.load()
        await self._write(decision, hit)
        log.warning("revoked", decision=name, certificates=len(hit), reason=reason.name, by=actor)
        return Outcome(name, hit, banned)

    async def resume(self) -> None:
        """Finish the decisions that were interrupted; raises StoreUnavailable."""
        for decision in await asyncio.to_thread(self.revocations.open_decisions):
            hit = await self._select(decision.selector, is_new=False)
            await self._write(decision, hit)
            log.warning("revocation_resumed", decision=decision.decision, certificates=len(hit))

    async def release(self, serial: str, *, actor: str, why: str) -> None:
        """End a hold; raises NotFound, and Conflict for a revocation that is for good."""
        found = await asyncio.to_thread(self.revocations.get, serial)
        if found.reason is not Reason.certificateHold:
            raise Conflict(
                f"serial {found.serial} was revoked for {found.reason.name}: that is for good; "
                "only certificateHold can be released"
            )
        now = self.clock.now()
        entry = _entry(found, "released", actor, why, now)
        await self.writer.submit(Released(found.serial, now), entry)
        await self.state.load()

    async def lift(self, ban: str, *, actor: str, why: str) -> None:
        """End a ban; raises NotFound, and Conflict when it has ended."""
        known = {b.ban: b for b in await asyncio.to_thread(self.revocations.bans)}
        if ban not in known:
            raise NotFound(f"there is no ban {ban[:64]}; see `meshca svid bans`")
        now = self.clock.now()
        entry = _ban_entry(known[ban], "lifted", actor, why, now)
        await self.writer.submit(Lifted(ban, now), entry)
        await self.state.load()

    async def _select(self, selector: Selector, *, is_new: bool = True) -> list[Revocation]:
        now = self.clock.now()
        if selector.spiffe_id:
            self._check_ours(selector.spiffe_id)
        if selector.serial and is_new:
            await asyncio.to_thread(self._check_serial, selector.serial, now)
        return await asyncio.to_thread(lambda: list(self.revocations.select(selector, now=now)))

    def _check_ours(self, text: str) -> None:
        other = SpiffeId.parse(text).trust_domain
        if other != self.trust_domain:
            raise RequestRefused(
                "selector",
                f"{text} is of trust domain {other}: its certificates are revoked there, not by "
                f"{self.trust_domain}",
            )

    def _check_serial(self, serial: str, now: datetime) -> None:
        record = self.inventory.get(serial)
        if record.intent.not_after <= now:
            ended = record.intent.not_after.isoformat()
            raise Conflict(f"serial {serial} ended at {ended}: there is nothing left to revoke")

    def _check_number(self, count: int, confirmed: int | None) -> None:
        if confirmed is not None and confirmed != count:
            raise Conflict(f"{confirmed} certificates were confirmed, but {count} would be hit")
        if confirmed is None and count > self.confirm_above:
            raise Conflict(
                f"{count} certificates would be hit, more than {self.confirm_above}: look at them "
                f"with --dry-run, then say --yes-revoke-{count}"
            )

    def _make_ban(
        self, selector: Selector, asked: BanRequest, actor: str, why: str, now: datetime
    ) -> Ban:
        if asked.until is not None and asked.until <= now:
            raise RequestRefused("ban", f"a ban until {asked.until.isoformat()} has ended already")
        name = secrets.token_hex(8)
        return Ban(name, selector.of_callers(), why, actor, now, asked.until)

    async def _write(self, decision: Decision, hit: Sequence[Revocation]) -> None:
        now = self.clock.now().replace(microsecond=0)
        whole = [_of_decision(each, decision, now) for each in hit]
        one_by_one = len(whole) <= AUDITED_ONE_BY_ONE
        for start in range(0, len(whole), BATCH):
            batch = whole[start : start + BATCH]
            entries = (
                [_entry(r, "revoked", decision.actor, decision.why, now) for r in batch]
                if one_by_one
                else _shared_entries(batch, decision, now)
            )
            await self.writer.submit(Revoked(batch), *entries)
        await self.writer.submit(Closed(decision.decision, len(whole)))
        await self.state.load()


def _of_decision(each: Revocation, decision: Decision, now: datetime) -> Revocation:
    return Revocation(
        each.serial,
        decision.decision,
        each.authority_id,
        each.spiffe_id,
        each.fingerprint,
        each.not_after,
        decision.reason,
        now,
    )


def _entry(r: Revocation, what: str, actor: str, why: str, now: datetime) -> Entry:
    return Entry(
        time=now,
        kind="revocation",
        outcome="done",
        actor=actor,
        spiffe_id=r.spiffe_id,
        serial=r.serial,
        reason=why,
        details={
            "what": what,
            "decision": r.decision,
            "crl_reason": r.reason.name,
            "authority": r.authority_id,
            "sha256": r.fingerprint,
        },
    )


def _shared_entries(batch: Sequence[Revocation], decision: Decision, now: datetime) -> list[Entry]:
    """Return entries that name every serial of `batch`, many to an entry."""
    return [
        Entry(
            time=now,
            kind="revocation",
            outcome="done",
            actor=decision.actor,
            reason=decision.why,
            details={
                "what": "revoked",
                "decision": decision.decision,
                "crl_reason": decision.reason.name,
                "serials": [r.serial for r in batch[start : start + _SHARED_ENTRY]],
            },
        )
        for start in range(0, len(batch), _SHARED_ENTRY)
    ]


def _ban_entry(ban: Ban, what: str, actor: str, why: str, now: datetime) -> Entry:
    return Entry(
        time=now,
        kind="ban",
        outcome="done",
        actor=actor,
        spiffe_id=ban.selector.spiffe_id,
        cluster=ban.selector.cluster,
        namespace=ban.selector.namespace,
        service_account=ban.selector.service_account,
        node=ban.selector.node,
        reason=why,
        details={
            "what": what,
            "ban": ban.ban,
            "selector": dict(ban.selector.given()),
            "until": None if ban.until is None else int(ban.until.timestamp()),
        },
    )
