"""Break-glass: two persons open a door that policy keeps shut, for a time, with a reason.

    a policy    written with `meshca.io/break-glass` -> approved -> in force until it expires
    a bypass    requested -> approved within 15 minutes -> in force for what was asked, or ended

Rules. Nothing of this is in force by one person's word. Who approves is not who wrote the policy
(`authz/staging/origin.py`) or requested the bypass; a policy that no applied set brought, of a
directory or a cluster, takes two approvers. An approval is of what a policy means, as it was
brought then: one that was changed, or taken out of the applied set and brought again, needs
another. An attempt that a rule refuses is on record, too; not on record are a name under which
there is nothing to open, and a step that lost against another one of the same moment.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NoReturn

from authz.policy import Policy
from authz.staging.events import Event, Step
from authz.staging.live import LiveStaging
from authz.staging.operations import MESHCA, EntryOf
from authz.staging.origin import NOT_APPLIED, AppliedRuns, author_of
from authz.staging.standing import Approval, BypassState, EmergencyBypass
from meshca.database import GroupWriter
from meshca.errors import Conflict, MeshcaError, NotFound, RequestRefused
from meshca.logs import get_logger

SHORTEST_BYPASS: Final = timedelta(seconds=1)
LONGEST_BYPASS: Final = timedelta(hours=4)

log = get_logger("authz")


@dataclass(frozen=True, slots=True)
class _Found:
    """A policy and who brought it; `began` and `candidate` name its run as in `Approval`."""

    policy: Policy
    author: str | None
    began: int
    candidate: int = 0


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
        found = await self._find(name)
        known = live.standing.approvals.get(found.policy.digest)
        event = Event(
            subject=f"policy/{found.policy.digest}",
            step=Step.APPROVED,
            at=live.clock.now(),
            actor=actor,
            reason=reason,
            details=_of_policy(found),
            follows=0 if known is None else known.last,
        )
        if found.policy.expires is None or found.policy.expires <= event.at.timestamp():
            message = f"{name} is over: give it a later meshca.io/expires"
            await self._refuse(event, RequestRefused("over", message))
        if actor == found.author:
            message = f"{actor} brought {name}: somebody else has to approve of it"
            await self._refuse(event, RequestRefused("same_person", message))
        if known is not None and known.stands and any(a.actor == actor for a in known.approvers):
            message = f"{actor} has approved of {name} already; somebody else has to"
            await self._refuse(event, Conflict(message))
        await self._take(event)
        return live.standing.approvals[found.policy.digest]

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
        await self.live.load()
        name = f"bypass-{secrets.token_hex(4)}"
        details = {
            "namespace": namespace,
            "labels": dict(sorted(labels.items())),
            "seconds": int(lifetime.total_seconds()),
        }
        event = self._step(name, Step.REQUESTED, actor, reason, details, follows=0)
        if not SHORTEST_BYPASS <= lifetime <= LONGEST_BYPASS:
            message = "a bypass is for at least a second, at most 4 hours"
            await self._refuse(event, RequestRefused("lifetime", message))
        await self._take(event)
        return self.live.standing.bypasses[name]

    async def approve_bypass(self, name: str, *, actor: str, reason: str) -> EmergencyBypass:
        """Put a requested bypass in force, from now; raises NotFound, RequestRefused, Conflict."""
        await self.live.load()
        bypass = self._bypass(name)
        state = bypass.state(self.live.clock.now())
        event = self._step(name, Step.APPROVED, actor, reason, _of(bypass), follows=bypass.last)
        if state is not BypassState.REQUESTED:
            await self._refuse(event, Conflict(_cannot_approve(name, state)))
        if actor == bypass.requested_by:
            message = f"{actor} requested {name}: somebody else has to approve of it"
            await self._refuse(event, RequestRefused("same_person", message))
        await self._take(event)
        return self._bypass(name)

    async def end_bypass(self, name: str, *, actor: str, reason: str) -> EmergencyBypass:
        """End a bypass, or take the request for one back; raises NotFound and Conflict."""
        await self.live.load()
        bypass = self._bypass(name)
        event = self._step(name, Step.ENDED, actor, reason, _of(bypass), follows=bypass.last)
        if bypass.state(self.live.clock.now()) in (BypassState.ENDED, BypassState.LAPSED):
            await self._refuse(event, Conflict(f"{name} is not in force, nor asked for"))
        await self._take(event)
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

    async def _find(self, name: str) -> _Found:
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
                    return _Found(policy, live.staged.author, NOT_APPLIED, live.staged.number)
                runs = AppliedRuns(engine=live.engine, options=live.loader.options)
                named = name, policy.digest
                began = (await asyncio.to_thread(runs.began, [named]))[policy.digest]
                author = await asyncio.to_thread(author_of, began, live.engine)
                return _Found(policy, author, began)
        raise NotFound(f"there is no policy {name[:300]}; see meshca authz get")

    async def _take(self, event: Event) -> None:
        await self.writer.submit(event, self.entry_of(event, "done"))
        log.warning("break_glass", subject=event.subject, step=str(event.step), by=event.actor)
        await self.live.load()

    async def _refuse(self, event: Event, error: MeshcaError) -> NoReturn:
        """Put on record that `event` was refused, then raise `error`."""
        await self.writer.submit(self.entry_of(event, "refused"))
        log.warning("break_glass_refused", subject=event.subject, by=event.actor)
        raise error

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


def _of_policy(found: _Found) -> Mapping[str, object]:
    return {
        "policy": found.policy.full_name,
        "why": found.policy.break_glass,
        "expires": found.policy.expires,
        "needed": 2 if found.author is None else 1,
        "author": found.author or "",
        "began": found.began,
        "candidate": found.candidate,
    }


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
