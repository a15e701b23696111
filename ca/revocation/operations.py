"""Revoking, releasing, banning: what an operator may do, each audited with who and why.

    select -> confirm -> decision (open) and ban -> batches of what is hit -> decision closed

Few and without a ban, all of it is one transaction.

With a ban it is selected again once the ban is in force, and again once every replica has heard of
it, so that whoever is banned keeps nothing that was issued meanwhile. A decision that was
interrupted is finished by `resume`, at the next start or within two minutes. What is revoked stays
as it was, however often it is asked for; only from a hold it can become something else.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from audit.entry import Entry
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.state import TICK_SECONDS, RevocationState
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
from meshca.errors import Conflict, MeshcaError, NotFound, RequestRefused
from meshca.logs import get_logger
from meshca.spiffe_id import SpiffeId

BATCH: Final = 500
AUDITED_ONE_BY_ONE: Final = 1_000
"""More than so many in one decision share audit entries, by thirty-two."""
INTERRUPTED_AFTER: Final = timedelta(minutes=1)
"""A decision that is open for so long is one that whoever took it did not finish."""
HEARD_AFTER: Final = 2 * timedelta(seconds=TICK_SECONDS)
"""By then every replica that runs has heard of a ban."""
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
    _at_work: set[str] = field(default_factory=set)
    _with_ban: list[tuple[Decision, Ban]] = field(default_factory=list)

    async def rehearse(
        self, selector: Selector, reason: Reason, *, ban: BanRequest | None = None
    ) -> Outcome:
        """Return what `selector` would hit now; raises as `revoke` does, but for the number."""
        now = self.clock.now()
        self._check(selector)
        if ban is not None:
            self._make_ban(selector, ban, "", "", now)
        _, hit = await asyncio.to_thread(self._look_up, selector, reason, now)
        return Outcome("", hit)

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
        Conflict for one that has ended or is revoked already, and when more are hit than may be
        without `confirmed`. StoreUnavailable part of the way: `resume` does the rest.
        """
        now = self.clock.now()
        self._check(selector)
        banned = None if ban is None else self._make_ban(selector, ban, actor, why, now)
        await self.writer.submit()  # what this process has just signed is on record
        last, hit = await asyncio.to_thread(self._look_up, selector, reason, now)
        self._check_number(len(hit), confirmed)
        if not hit and banned is None:
            return Outcome("", ())
        name = f"{microseconds(now):x}-{secrets.token_hex(4)}"
        last_certificate = last if banned is None else None
        decision = Decision(
            name, now, actor, why, reason, selector, len(hit), last_certificate=last_certificate
        )
        self._at_work.add(name)
        try:
            hit = await self._carry_out(decision, hit, banned)
        finally:
            self._at_work.discard(name)
        log.warning("revoked", decision=name, certificates=len(hit), reason=reason.name, by=actor)
        return Outcome(name, hit, banned)

    async def ban(self, selector: Selector, asked: BanRequest, *, actor: str, why: str) -> Ban:
        """Ban whom `selector` selects from new certificates, and leave what they have.

        Raises RequestRefused for what cannot be meant.
        """
        now = self.clock.now()
        self._check_ours(selector)
        banned = self._make_ban(selector, asked, actor, why, now)
        await self.writer.submit(banned, _ban_entry(banned, "banned", actor, why, now))
        await self.state.load()
        return banned

    async def run(self) -> None:
        """Finish what was begun, now and then, until cancelled."""
        while True:
            try:
                await self.resume(older_than=INTERRUPTED_AFTER)
                await self.sweep()
            except MeshcaError as error:
                log.warning("revocation_not_resumed", error=str(error))
            await asyncio.sleep(TICK_SECONDS)

    async def sweep(self) -> None:
        """Revoke what replicas issued to the banned before they had heard; raises StoreUnavailable.

        It is done once for each decision with a ban, if that still holds.
        """
        now = self.clock.now()
        for decision, ban in tuple(self._with_ban):
            if now - decision.at < HEARD_AFTER:
                continue
            if ban.holds(now) and ban in self.state.bans:
                hit = await self._select(decision.selector, decision.reason, decision)
                if hit:
                    await self._write(decision, hit)
                    log.warning("revoked", decision=decision.decision, certificates=len(hit))
            self._with_ban.remove((decision, ban))

    async def resume(self, *, older_than: timedelta = timedelta(0)) -> None:
        """Finish the decisions that were interrupted; raises StoreUnavailable."""
        until = self.clock.now() - older_than
        for decision in await asyncio.to_thread(self.revocations.open_decisions):
            if decision.decision in self._at_work or decision.at > until:
                continue
            hit = await self._select(decision.selector, decision.reason, decision)
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
        until = known[ban].until
        if until is not None and until <= now:
            raise Conflict(f"ban {ban} ended at {until.isoformat()}")
        entry = _ban_entry(known[ban], "lifted", actor, why, now)
        await self.writer.submit(Lifted(ban, now), entry)
        await self.state.load()

    def _check(self, selector: Selector) -> None:
        if not selector.given():
            raise RequestRefused("selector", "nothing was selected, and that is not all")
        self._check_ours(selector)

    def _look_up(
        self, selector: Selector, reason: Reason, now: datetime
    ) -> tuple[int, Sequence[Revocation]]:
        """Return the newest certificate there is, and what `selector` hits; blocks.

        All in one turn of a thread: what is revoked waits for each turn. Raises NotFound, and
        Conflict, for a serial that cannot be revoked.
        """
        if selector.serial:
            self._check_serial(selector.serial, reason, now)
        last = self.revocations.last_certificate()
        return last, list(self.revocations.select(selector, now=now, reason=reason))

    async def _select(
        self, selector: Selector, reason: Reason, decided: Decision | None = None
    ) -> list[Revocation]:
        now, select = self.clock.now(), self.revocations.select
        return await asyncio.to_thread(
            lambda: list(select(selector, now=now, reason=reason, decided=decided))
        )

    def _check_ours(self, selector: Selector) -> None:
        text = selector.spiffe_id
        if text and (other := SpiffeId.parse(text).trust_domain) != self.trust_domain:
            raise RequestRefused(
                "selector",
                f"{text} is of trust domain {other}: its certificates are revoked there, not by "
                f"{self.trust_domain}",
            )

    def _check_serial(self, serial: str, reason: Reason, now: datetime) -> None:
        record = self.inventory.get(serial)
        if record.intent.not_after <= now:
            ended = record.intent.not_after.isoformat()
            raise Conflict(f"serial {serial} ended at {ended}: there is nothing left to revoke")
        try:
            found = self.revocations.get(serial)
        except NotFound:
            return
        is_hold = found.reason is Reason.certificateHold
        if found.released_at is None and not (is_hold and reason is not Reason.certificateHold):
            raise Conflict(
                f"serial {serial} is revoked already: {found.reason.name}, since "
                f"{found.revoked_at.isoformat()}, decision {found.decision}"
            )

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
        until = asked.until
        if until is not None and until.microsecond:  # whole seconds are kept: never one too few
            until = until.replace(microsecond=0) + timedelta(seconds=1)
        name = secrets.token_hex(8)
        return Ban(name, selector.of_callers(), why, actor, now.replace(microsecond=0), until)

    async def _carry_out(
        self, decision: Decision, hit: Sequence[Revocation], ban: Ban | None
    ) -> Sequence[Revocation]:
        """Write a new decision and all that it hits; return that."""
        first: tuple[object, ...] = ()
        if ban is not None:
            entry = _ban_entry(ban, "banned", decision.actor, decision.why, decision.at)
            await self.writer.submit(decision, ban, entry)
            await self.state.load()
            await self.writer.submit()  # what was on its way when the ban came is on record
            hit = await self._select(decision.selector, decision.reason)
            self._with_ban.append((decision, ban))
        elif len(hit) > BATCH:
            await self.writer.submit(decision)
        else:
            first = (decision,)  # few are one transaction
        await self._write(decision, hit, first)
        return hit

    async def _write(
        self, decision: Decision, hit: Sequence[Revocation], first: tuple[object, ...] = ()
    ) -> None:
        """Write what a decision hits, after `first`, and that it is closed."""
        now = self.clock.now().replace(microsecond=0)
        one_by_one = len(hit) <= AUDITED_ONE_BY_ONE
        for start in range(0, max(len(hit), 1), BATCH):
            batch = [_of_decision(each, decision, now) for each in hit[start : start + BATCH]]
            entries = (
                [_entry(r, "revoked", decision.actor, decision.why, now) for r in batch]
                if one_by_one
                else _shared_entries(batch, decision, now)
            )
            revoked = (Revoked(batch),) if batch else ()
            closed = (Closed(decision.decision),) if start + BATCH >= len(hit) else ()
            await self.writer.submit(*first, *revoked, *closed, *entries)
            first = ()
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
        fingerprint=r.fingerprint,
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
