"""Break-glass: two persons open a door that policy keeps shut, for a time, with a reason.

    a policy    written with `meshca.io/break-glass` -> approved -> in force until it expires
    a bypass    requested -> approved within 15 minutes -> in force for what was asked, or ended

Rules. Nothing of this is in force by one person's word. Who approves is not who wrote the policy
(`authz/staging/origin.py`) or requested the bypass; a policy that no applied set brought, of a
directory or a cluster, takes two approvers. An approval is of what a policy means: one that was
changed needs another. Every attempt is on record, also one that was refused.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from authz.policy import Policy
from authz.staging.events import Event, Step
from authz.staging.live import LiveStaging
from authz.staging.operations import MESHCA, EntryOf
from authz.staging.origin import author_of
from authz.staging.standing import Approval, BypassState, EmergencyBypass
from meshca.database import GroupWriter
from meshca.errors import Conflict, NotFound, RequestRefused
from meshca.logs import get_logger

SHORTEST_BYPASS: Final = timedelta(seconds=1)
LONGEST_BYPASS: Final = timedelta(hours=4)

log = get_logger("authz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Emergencies:
    """The operations of `meshca authz approve|bypass`."""

    live: LiveStaging
    writer: GroupWriter
    entry_of: EntryOf

    async def approve_policy(self, name: str, *, actor: str, reason: str) -> Approval:
        """Approve of the break-glass policy `namespace/name` as it is now.

        Raises NotFound; RequestRefused for one that is no break-glass policy or is over, and for
        who wrote it; Conflict for who has approved of it before.
        """
        live = self.live
        await live.load()
        policy, author = await self._find(name)
        now = live.clock.now()
        if policy.expires is None or policy.expires <= now.timestamp():
            raise RequestRefused("over", f"{name} is over: give it a later meshca.io/expires")
        known = live.standing.approvals.get(policy.digest)
        event = Event(
            subject=f"policy/{policy.digest}",
            step=Step.APPROVED,
            at=now,
            actor=actor,
            reason=reason,
            details={
                "policy": name,
                "why": policy.break_glass,
                "expires": policy.expires,
                "needed": 2 if author is None else 1,
                "author": author or "",
            },
            follows=0 if known is None else known.last,
        )
        if actor == author:
            message = f"{actor} brought {name}: somebody else has to approve of it"
            await self._refuse(event, "same_person", message)
        if known is not None and any(a.actor == actor for a in known.approvers):
            raise Conflict(f"{actor} has approved of {name} already; somebody else has to")
        await self._take(event)
        return live.standing.approvals[policy.digest]

    async def request_bypass(
        self,
        namespace: str,
        labels: Mapping[str, str],
        *,
        lifetime: timedelta,
        actor: str,
        reason: str,
    ) -> EmergencyBypass:
        """Ask for a bypass of these destinations; it is inert until somebody else approves.

        Raises RequestRefused for a lifetime out of bounds.
        """
        if not SHORTEST_BYPASS <= lifetime <= LONGEST_BYPASS:
            raise RequestRefused("lifetime", "a bypass is for at least a second, at most 4 hours")
        await self.live.load()
        name = f"bypass-{secrets.token_hex(4)}"
        details = {
            "namespace": namespace,
            "labels": dict(sorted(labels.items())),
            "seconds": int(lifetime.total_seconds()),
        }
        await self._take(self._step(name, Step.REQUESTED, actor, reason, details, follows=0))
        return self.live.standing.bypasses[name]

    async def approve_bypass(self, name: str, *, actor: str, reason: str) -> EmergencyBypass:
        """Put a requested bypass in force, from now; raises NotFound, RequestRefused, Conflict."""
        await self.live.load()
        bypass = self._bypass(name)
        state = bypass.state(self.live.clock.now())
        if state is not BypassState.REQUESTED:
            raise Conflict(_cannot_approve(name, state))
        event = self._step(name, Step.APPROVED, actor, reason, _of(bypass), follows=bypass.last)
        if actor == bypass.requested_by:
            message = f"{actor} requested {name}: somebody else has to approve of it"
            await self._refuse(event, "same_person", message)
        await self._take(event)
        return self._bypass(name)

    async def end_bypass(self, name: str, *, actor: str, reason: str) -> EmergencyBypass:
        """End a bypass, or take the request for one back; raises NotFound and Conflict."""
        await self.live.load()
        bypass = self._bypass(name)
        if bypass.state(self.live.clock.now()) in (BypassState.ENDED, BypassState.LAPSED):
            raise Conflict(f"{name} is not in force, nor asked for")
        await self._take(
            self._step(name, Step.ENDED, actor, reason, _of(bypass), follows=bypass.last)
        )
        return self._bypass(name)

    async def note_ends(self) -> None:
        """Put on record which bypasses have ended by themselves; raises StoreUnavailable.

        They have ended before; of several replicas one writes it down.
        """
        now = self.live.clock.now()
        for bypass in tuple(self.live.standing.bypasses.values()):
            state = bypass.state(now)
            if bypass.ended_at is not None or state in (
                BypassState.REQUESTED,
                BypassState.IN_FORCE,
            ):
                continue
            why = "its time is over" if state is BypassState.ENDED else "nobody approved in time"
            event = self._step(
                bypass.name, Step.ENDED, MESHCA, why, _of(bypass), follows=bypass.last
            )
            try:
                await self._take(event)
            except Conflict:
                await self.live.load()

    async def _find(self, name: str) -> tuple[Policy, str | None]:
        """Return the policy and who brought it: of what is in force, or else of the candidate."""
        live = self.live
        namespace, _, _ = name.partition("/")
        for policies in (live.loader.state.current, live.candidate):
            if policies is None:
                continue
            for policy in policies.by_namespace.get(namespace, ()):
                if policy.full_name != name:
                    continue
                if not policy.break_glass:
                    raise RequestRefused("no_break_glass", f"{name} has no meshca.io/break-glass")
                if policies is live.candidate and live.staged is not None:
                    return policy, live.staged.author
                author = await asyncio.to_thread(
                    author_of, policy, live.engine, live.loader.options
                )
                return policy, author
        raise NotFound(f"there is no policy {name[:300]}; see meshca authz get")

    async def _take(self, event: Event) -> None:
        await self.writer.submit(event, self.entry_of(event, "done"))
        log.warning("break_glass", subject=event.subject, step=str(event.step), by=event.actor)
        await self.live.load()

    async def _refuse(self, event: Event, code: str, message: str) -> None:
        await self.writer.submit(self.entry_of(event, "refused"))
        log.warning("break_glass_refused", subject=event.subject, by=event.actor)
        raise RequestRefused(code, message)

    def _bypass(self, name: str) -> EmergencyBypass:
        bypass = self.live.standing.bypasses.get(name)
        if bypass is None:
            raise NotFound(f"there is no bypass {name[:64]}; see meshca authz bypass")
        return bypass

    def _step(
        self,
        name: str,
        step: Step,
        actor: str,
        reason: str,
        details: Mapping[str, object],
        *,
        follows: int,
    ) -> Event:
        return Event(
            subject=f"bypass/{name}",
            step=step,
            at=self.live.clock.now(),
            actor=actor,
            reason=reason,
            details=details,
            follows=follows,
        )


def _of(bypass: EmergencyBypass) -> Mapping[str, object]:
    return {
        "namespace": bypass.namespace,
        "labels": dict(bypass.labels),
        "seconds": int(bypass.lifetime.total_seconds()),
    }


def _cannot_approve(name: str, state: BypassState) -> str:
    match state:
        case BypassState.IN_FORCE:
            return f"{name} is in force already"
        case BypassState.LAPSED:
            return f"{name} was not approved within 15 minutes; ask for another one"
        case _:
            return f"{name} has ended; ask for another one"
