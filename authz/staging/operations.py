"""The steps of a staged change: a whole set of policies on its way into force.

    draft -> shadow -> canary (in some namespaces) -> enforce
               ^---------'  taken back by hand, or by itself (authz/staging/watch.py)

Rules. One candidate at a time. It is loaded together with every other source before any step is
taken, and again while it is on trial. Each step is one row, with who and why, in one transaction
with its audit entry; the last one also with the applied set that the candidate becomes. When an
applied set has come in between, the last step would undo it, and must be asked for (`rebase`).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from authz.change import Change, difference
from authz.policy import Stage
from authz.sources import PreparedChange
from authz.staging.events import STAGE_SUBJECT, Event, Step
from authz.staging.live import LiveStaging
from authz.staging.standing import Candidate
from authz.store import latest
from authz.text_diff import text_diff
from meshca.database import GroupWriter
from meshca.errors import Conflict, InvalidDocument, NotFound, RequestRefused
from meshca.logs import get_logger

EntryOf = Callable[[Event, str], Any]
"""Makes the audit entry of a step, with its outcome: `done` or `refused`."""

MESHCA: Final = "meshca"
_ORDER: Final = (Stage.DRAFT, Stage.SHADOW, Stage.CANARY, Stage.ENFORCE)

log = get_logger("authz")


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedChanges:
    """The operations of `meshca authz stage|promote|withdraw`."""

    live: LiveStaging
    writer: GroupWriter
    entry_of: EntryOf

    async def stage(self, documents: str, *, author: str, reason: str) -> Candidate:
        """Begin a candidate, at draft: nowhere in force, and not on trial.

        Raises InvalidDocument with every problem, and Conflict when there is a candidate.
        """
        live = self.live
        await live.load()
        if live.staged is not None:
            raise Conflict(
                f"candidate {live.staged.number} of {live.staged.author} is at "
                f"{live.staged.stage}: promote it to the end, or withdraw it first"
            )
        based_on = await asyncio.to_thread(latest, live.engine)
        policies = await asyncio.to_thread(live.loader.load_with, documents)
        change = difference(live.without_canary(), policies)
        before = () if based_on is None else (("", based_on.documents),)
        diff = await asyncio.to_thread(text_diff, before, (("", documents),))
        details = {
            "based_on": 0 if based_on is None else based_on.version,
            "version": policies.version,
            "summary": str(change),
        }
        event = Event(
            subject=STAGE_SUBJECT,
            step=Step.STAGED,
            at=live.clock.now(),
            actor=author,
            reason=reason,
            details={**details, **change.details()},
            documents=documents,
            follows=live.standing.last_of_stage,
        )
        await self._take(event, _with(event, change, diff))
        return self._candidate()

    async def promote(
        self,
        *,
        actor: str,
        reason: str,
        to: Stage | None = None,
        namespaces: Collection[str] = (),
        rebase: bool = False,
    ) -> Candidate | None:
        """Take the candidate to `to`, or to the next stage; return it, None once it is enforced.

        From canary it may go back to shadow, or to other namespaces. Raises NotFound without a
        candidate, RequestRefused for a step that cannot be meant, InvalidDocument when it does not
        load (any more), Conflict when somebody was faster.
        """
        await self.live.load()
        candidate = self._candidate()
        target = to or (Stage.CANARY if namespaces else _next(candidate.stage))
        _check_step(candidate, target, namespaces)
        if self.live.candidate is None:
            raise InvalidDocument(self.live.problems)
        if target is Stage.ENFORCE:
            await self._enforce(candidate, actor, reason, rebase=rebase)
            return None
        details = {"from": candidate.stage, "to": target, "namespaces": sorted(set(namespaces))}
        await self._take(self._step(candidate, Step.PROMOTED, actor, reason, details))
        return self._candidate()

    async def withdraw(self, *, actor: str, reason: str) -> Candidate:
        """End the candidate, which is nowhere any more; raises NotFound and Conflict."""
        await self.live.load()
        candidate = self._candidate()
        details = {"from": candidate.stage, "namespaces": sorted(candidate.namespaces)}
        await self._take(self._step(candidate, Step.WITHDRAWN, actor, reason, details))
        return candidate

    async def fall_back(
        self, candidate: Candidate, reason: str, details: Mapping[str, Any]
    ) -> None:
        """Take a canary back to shadow, by ourselves; raises Conflict when it has moved on."""
        details = {
            "from": candidate.stage,
            "to": Stage.SHADOW,
            "was_in": sorted(candidate.namespaces),
            **details,
        }
        await self._take(self._step(candidate, Step.FELL_BACK, MESHCA, reason, details))

    async def _enforce(
        self, candidate: Candidate, actor: str, reason: str, *, rebase: bool
    ) -> None:
        live = self.live

        async def record(prepared: PreparedChange) -> None:
            between = prepared.applied.version - 1 - candidate.based_on
            if between and not rebase:
                raise Conflict(
                    f"applied set {prepared.applied.version - 1} came after the candidate was "
                    "staged, and enforcing it would undo that: stage it again with what has "
                    "changed, or say --rebase to put the candidate in its place"
                )
            change = prepared.change
            details = {
                "from": candidate.stage,
                "applied_version": prepared.applied.version,
                "author": candidate.author,
                "rebased": bool(between),
                "summary": str(change),
                **change.details(),
            }
            event = self._step(candidate, Step.ENFORCED, actor, reason, details)
            entry = self.entry_of(_with(event, change, prepared.diff), "done")
            await self.writer.submit(prepared.applied, event, entry)

        await live.loader.apply(
            live.documents(), author=candidate.author, reason=reason, record=record
        )
        await live.load()

    async def _take(self, event: Event, told: Event | None = None) -> None:
        await self.writer.submit(event, self.entry_of(told or event, "done"))
        log.warning("staged_change", step=str(event.step), by=event.actor)
        await self.live.load()

    def _step(
        self, candidate: Candidate, step: Step, actor: str, reason: str, details: Mapping[str, Any]
    ) -> Event:
        return Event(
            subject=STAGE_SUBJECT,
            step=step,
            at=self.live.clock.now(),
            actor=actor,
            reason=reason,
            details={"candidate": candidate.number, **details},
            follows=candidate.last,
        )

    def _candidate(self) -> Candidate:
        if self.live.staged is None:
            raise NotFound("nothing is staged; begin with: meshca authz stage FILE... --reason ...")
        return self.live.staged


def _with(event: Event, change: Change, diff: str) -> Event:
    """Return what the audit log is told of `event`: which documents differ, and how."""
    return replace(event, details={**event.details, **change.recorded(diff)})


def _next(stage: Stage) -> Stage:
    return _ORDER[_ORDER.index(stage) + 1]


def _check_step(candidate: Candidate, target: Stage, namespaces: Collection[str]) -> None:
    here = candidate.stage
    if target is Stage.DRAFT:
        raise RequestRefused("backwards", "what was on trial is no draft again; withdraw it")
    if target is Stage.CANARY and not namespaces:
        raise RequestRefused("no_namespaces", "a canary needs --namespaces: where it is in force")
    if target is not Stage.CANARY and namespaces:
        raise RequestRefused("namespaces", f"--namespaces are of a canary, not of {target}")
    if target is here and frozenset(namespaces) == candidate.namespaces:
        raise RequestRefused("already_there", f"candidate {candidate.number} is at {here} already")
