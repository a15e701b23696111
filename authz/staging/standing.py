"""What stands after the steps that operators took: the candidate, approvals, bypasses.

    standing_of(events) -> Standing -> overlay_of(standing, now, candidate) -> Overlay

Pure: the same rows at the same time give the same overlay on every replica. Steps are trusted to
have been allowed when they were taken (`operations`, `emergencies`); what has no effect any more
is left out by time alone, so that it ends without anybody doing anything. Only whether approvals
`stand` is not in the steps: `with_runs` takes that from the applied versions, which are rows, too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from authz.overlay import Bypass, Overlay
from authz.policy import PolicySet, Stage
from authz.staging.events import Event, Step

APPROVED_WITHIN: Final = timedelta(minutes=15)
"""A bypass that nobody has approved by then never comes into force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The staged set: `number` names it, `last` is the number of its last step.

    `based_on` is the version of the applied set when it was staged (0: none). `since`, `by` and
    `why` are those of its last step; `began` when it was first not a draft. `fell_back` holds the
    pairs that were denied, if its last step was that it fell back.
    """

    number: int
    last: int
    stage: Stage
    author: str
    reason: str
    staged_at: datetime
    based_on: int
    since: datetime
    by: str
    why: str
    namespaces: frozenset[str] = frozenset()
    began: datetime | None = None
    fell_back: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """One person who approved: who, when and why."""

    actor: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Approvals of one break-glass policy, by the digest of what it means.

    It takes `needed` different persons, and ends with the policy. They are for one run of it: of
    `candidate`, if that is not 0, and of the applied sets from `began` on (`AppliedRuns`). Once
    that is broken they do not count, whoever brings the policy again; `stands` says whether it
    goes on.
    """

    policy: str
    digest: str
    why: str
    needed: int
    expires: datetime
    last: int
    approvers: tuple[Approver, ...] = ()
    began: int | None = None
    candidate: int = 0
    stands: bool = False

    @property
    def is_complete(self) -> bool:
        """Return whether enough persons have approved."""
        return len({approver.actor for approver in self.approvers}) >= self.needed

    def holds(self, now: datetime) -> bool:
        """Return whether the policy is in force through it."""
        return self.is_complete and self.stands and now < self.expires


class BypassState(StrEnum):
    """Where an emergency bypass is in its life."""

    REQUESTED = "requested"
    LAPSED = "lapsed"
    IN_FORCE = "in_force"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyBypass:
    """A bypass of the destinations that `namespace` and `labels` select.

    It is in force for `lifetime` from its approval by somebody else than `requested_by`.
    """

    name: str
    namespace: str
    labels: Mapping[str, str]
    lifetime: timedelta
    requested_at: datetime
    requested_by: str
    reason: str
    last: int
    approval: Approver | None = None
    ended_at: datetime | None = None
    ended_by: str = ""

    @property
    def expires(self) -> datetime | None:
        """Return when it ends by itself; None before it is approved."""
        return None if self.approval is None else self.approval.at + self.lifetime

    def state(self, now: datetime) -> BypassState:
        """Return where it is at `now`."""
        if self.ended_at is not None:
            return BypassState.ENDED if self.approval is not None else BypassState.LAPSED
        if self.expires is None:
            lapses = self.requested_at + APPROVED_WITHIN
            return BypassState.REQUESTED if now < lapses else BypassState.LAPSED
        return BypassState.IN_FORCE if now < self.expires else BypassState.ENDED


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands. `applied_version` is the newest applied set that a candidate became.

    `became` has the applied version of each candidate that was enforced, by its number.
    """

    candidate: Candidate | None = None
    approvals: Mapping[str, Approval] = field(default_factory=lambda: MappingProxyType({}))
    bypasses: Mapping[str, EmergencyBypass] = field(default_factory=lambda: MappingProxyType({}))
    applied_version: int = 0
    last_of_stage: int = 0
    became: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))


def standing_of(events: Iterable[Event]) -> Standing:
    """Return what stands after `events`, which are in their order."""
    candidate: Candidate | None = None
    approvals: dict[str, Approval] = {}
    bypasses: dict[str, EmergencyBypass] = {}
    became: dict[int, int] = {}
    last = 0
    for event in events:
        kind, _, name = event.subject.partition("/")
        if kind == "policy":
            approvals[name] = _approved(approvals.get(name), event, name)
        elif kind == "bypass":
            bypasses[name] = _bypass_after(bypasses.get(name), event, name)
        else:
            candidate, last = _candidate_after(candidate, event), event.number
            if event.step is Step.ENFORCED:
                became[event.details["candidate"]] = event.details["applied_version"]
    return Standing(
        candidate,
        MappingProxyType(approvals),
        MappingProxyType(bypasses),
        max(became.values(), default=0),
        last,
        MappingProxyType(became),
    )


def approved_until(standing: Standing, now: datetime) -> list[tuple[str, str]]:
    """Return name and digest of the policies whose approvals are not over by time."""
    return [(a.policy, a.digest) for a in standing.approvals.values() if now < a.expires]


def with_runs(standing: Standing, began: Mapping[str, int]) -> Standing:
    """Return `standing` with the approvals that stand while runs began as `began` says, by digest.

    One whose run is not told does not stand.
    """
    approvals = {
        digest: replace(approval, stands=_goes_on(standing, approval, began.get(digest)))
        for digest, approval in standing.approvals.items()
    }
    return replace(standing, approvals=MappingProxyType(approvals))


def overlay_of(
    standing: Standing, now: datetime, candidate: PolicySet | None, *, suspended: bool = False
) -> Overlay[PolicySet]:
    """Return what lies over the set in force at `now`.

    `candidate` is the staged set, None where it does not load now: then what is in force stays so
    in canary namespaces, too. `suspended` takes the canary back without a step on record.
    """
    staged = standing.candidate
    on_trial = staged is not None and staged.stage is not Stage.DRAFT and candidate is not None
    in_canary = on_trial and staged is not None and staged.stage is Stage.CANARY and not suspended
    bypasses = sorted(standing.bypasses.values(), key=lambda bypass: bypass.name)
    return Overlay(
        candidate=candidate if on_trial else None,
        canary=staged.namespaces if staged is not None and in_canary else frozenset(),
        approvals=frozenset(a.digest for a in standing.approvals.values() if a.holds(now)),
        bypasses=tuple(
            Bypass(b.name, b.namespace, frozenset(b.labels.items()), b.expires.timestamp())
            for b in bypasses
            if b.expires is not None and b.state(now) is BypassState.IN_FORCE
        ),
    )


def next_end(standing: Standing, now: datetime) -> datetime | None:
    """Return when the next thing in force ends by itself; None when nothing does."""
    ends = [a.expires for a in standing.approvals.values() if a.holds(now)]
    for bypass in standing.bypasses.values():
        if bypass.expires is not None and bypass.state(now) is BypassState.IN_FORCE:
            ends.append(bypass.expires)
    return min(ends, default=None)


def break_glass_in_force(policies: PolicySet) -> list[str]:
    """Return the policies that approvals have put in force, as `namespace/name`."""
    overlay = policies.overlay
    sets = [policies]
    if overlay.canary and overlay.candidate is not None:
        sets.append(overlay.candidate)
    every = (policy for each in sets for policy in each.policies)
    return sorted({p.full_name for p in every if p.break_glass and p.digest in overlay.approvals})


def _candidate_after(candidate: Candidate | None, event: Event) -> Candidate | None:
    if event.step is Step.STAGED:
        return Candidate(
            number=event.number,
            last=event.number,
            stage=Stage.DRAFT,
            author=event.actor,
            reason=event.reason,
            staged_at=event.at,
            based_on=event.details["based_on"],
            since=event.at,
            by=event.actor,
            why=event.reason,
        )
    if candidate is None or event.step in (Step.WITHDRAWN, Step.ENFORCED):
        return None
    has_fallen = event.step is Step.FELL_BACK
    return replace(
        candidate,
        last=event.number,
        stage=Stage.SHADOW if has_fallen else Stage(event.details["to"]),
        namespaces=frozenset(event.details.get("namespaces", ())),
        since=event.at,
        by=event.actor,
        why=event.reason,
        began=candidate.began or event.at,
        fell_back=event.details if has_fallen else None,
    )


def _goes_on(standing: Standing, approval: Approval, began: int | None) -> bool:
    """Return whether the run that `approval` is for is the one that began at `began`."""
    if began is None or approval.began is None:
        return False
    if approval.candidate in standing.became:
        return began == standing.became[approval.candidate]
    if approval.candidate:
        staged = standing.candidate
        is_staged = staged is not None and staged.number == approval.candidate
        return is_staged and began == approval.began
    return began == approval.began


def _approved(approval: Approval | None, event: Event, digest: str) -> Approval:
    details = event.details
    approver = Approver(actor=event.actor, at=event.at, reason=event.reason)
    run = details.get("began"), details.get("candidate", 0)
    if approval is not None and (approval.began, approval.candidate) != run:
        approval = None
    before = () if approval is None else approval.approvers
    return Approval(
        policy=details["policy"],
        digest=digest,
        why=details["why"],
        needed=max(details["needed"], 1 if approval is None else approval.needed),
        expires=datetime.fromtimestamp(details["expires"], UTC),
        last=event.number,
        approvers=(*before, approver),
        began=run[0],
        candidate=run[1],
    )


def _bypass_after(bypass: EmergencyBypass | None, event: Event, name: str) -> EmergencyBypass:
    if bypass is None:
        details = event.details
        return EmergencyBypass(
            name=name,
            namespace=details["namespace"],
            labels=dict(details["labels"]),
            lifetime=timedelta(seconds=details["seconds"]),
            requested_at=event.at,
            requested_by=event.actor,
            reason=event.reason,
            last=event.number,
        )
    if event.step is Step.APPROVED:
        approver = Approver(actor=event.actor, at=event.at, reason=event.reason)
        return replace(bypass, approval=approver, last=event.number)
    return replace(bypass, ended_at=event.at, ended_by=event.actor, last=event.number)
