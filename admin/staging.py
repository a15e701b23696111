"""Routes of staged changes and of emergencies. Who acts is the kernel's word, and on record.

Each step is audited by what takes it (authz/staging), in the transaction of the step.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    model_validator,
)

from admin.changes import Reason
from admin.peer import get_peer
from admin.staging_views import (
    approval_json,
    bypass_json,
    canary_json,
    candidate_json,
    differences_json,
)
from admin.state import AdminState
from authz.policy import Stage
from authz.records.decisions import Decisions
from authz.staging.differences import read_differences
from authz.staging.standing import BypassState, Candidate
from meshca.errors import NotFound

Namespace = Annotated[str, StringConstraints(pattern="^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
PolicyName = Annotated[str, StringConstraints(pattern="^[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}$")]
BypassName = Annotated[str, StringConstraints(pattern="^bypass-[0-9a-f]{8}$")]
LabelName = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9./_-]{1,317}$")]
LabelValue = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9._-]{0,63}$")]
BypassPath = Annotated[str, Path(pattern="^bypass-[0-9a-f]{8}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewStage(_Strict):
    """The whole applied set that is proposed, as YAML, and why."""

    documents: str
    reason: Reason


class Promotion(_Strict):
    """Where to take the candidate (the next stage unless said), and why."""

    reason: Reason
    to: Literal["shadow", "canary", "enforce"] | None = None
    namespaces: Annotated[list[Namespace], Field(max_length=1000)] = []
    rebase: StrictBool = False


class JustReason(_Strict):
    """Why."""

    reason: Reason


class NewApproval(_Strict):
    """What is approved, a break-glass policy or a bypass, and why."""

    reason: Reason
    policy: PolicyName | None = None
    bypass: BypassName | None = None

    @model_validator(mode="after")
    def _one(self) -> "NewApproval":
        if (self.policy is None) == (self.bypass is None):
            raise ValueError("give exactly one of policy and bypass")
        return self


class NewBypass(_Strict):
    """Which destinations to open, for how long, and why."""

    namespace: Namespace
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=32)] = {}
    seconds: Annotated[int, Field(ge=1, strict=True)]
    reason: Reason


class StageQuery(_Strict):
    """`documents`: also what is staged, as YAML."""

    documents: bool = False


class BypassQuery(_Strict):
    """`all`: also those that have ended."""

    all: bool = False


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/authz")
    _add_stage(router, state)
    _add_approvals(router, state)
    _add_bypasses(router, state)
    return router


def _add_stage(router: APIRouter, state: AdminState) -> None:
    staging = state.staging

    @router.get("/stage")
    async def shown(query: Annotated[StageQuery, Query()]) -> Any:
        await staging.live.load()
        return await _shown(state, documents=query.documents)

    @router.post("/stage")
    async def stage(new: NewStage, request: Request) -> Any:
        actor = get_peer(request.scope).actor
        staged = await staging.changes.stage(new.documents, author=actor, reason=new.reason)
        candidate = staging.live.candidate
        warnings = () if candidate is None else candidate.warnings
        return {
            **(candidate_json(staging.live, staged) or {}),
            "warnings": [str(problem) for problem in warnings],
        }

    @router.post("/stage/promote")
    async def promote(asked: Promotion, request: Request) -> Any:
        staged = await staging.changes.promote(
            actor=get_peer(request.scope).actor,
            reason=asked.reason,
            to=None if asked.to is None else Stage(asked.to),
            namespaces=asked.namespaces,
            rebase=asked.rebase,
        )
        return {
            "candidate": candidate_json(staging.live, staged),
            "applied_version": None if staged else staging.live.standing.applied_version,
            "version": state.policies.current.version,
        }

    @router.post("/stage/withdraw")
    async def withdraw(asked: JustReason, request: Request) -> Any:
        actor = get_peer(request.scope).actor
        ended = await staging.changes.withdraw(actor=actor, reason=asked.reason)
        return {"number": ended.number, "withdrawn": True}


async def _shown(state: AdminState, *, documents: bool) -> Any:
    live, watch = state.staging.live, state.staging.watch
    staged = live.staged
    if staged is None:
        raise NotFound("nothing is staged")
    is_canary = staged.stage is Stage.CANARY
    return {
        **(candidate_json(live, staged) or {}),
        "changes": await asyncio.to_thread(_changes, state, staged),
        "canary": canary_json(watch) if is_canary else None,
        **({"documents": live.documents()} if documents else {}),
    }


def _changes(state: AdminState, staged: Candidate) -> Any:
    if staged.began is None:
        return None
    found = read_differences(state.engine, staged.began)
    lost = Decisions(state.engine).lost(staged.began)
    return differences_json(found, sum(lost.values()))


def _add_approvals(router: APIRouter, state: AdminState) -> None:
    live, emergencies = state.staging.live, state.staging.emergencies

    @router.get("/approvals")
    async def listed() -> Any:
        await live.load()
        now = live.clock.now()
        approvals = sorted(live.standing.approvals.values(), key=lambda a: (a.policy, a.expires))
        return {"approvals": [approval_json(a, now) for a in approvals if now < a.expires]}

    @router.post("/approvals")
    async def approve(new: NewApproval, request: Request) -> Any:
        actor = get_peer(request.scope).actor
        if new.bypass is not None:
            bypass = await emergencies.approve_bypass(new.bypass, actor=actor, reason=new.reason)
            return {"policy": None, "bypass": bypass_json(bypass, live.clock.now())}
        approval = await emergencies.approve_policy(str(new.policy), actor=actor, reason=new.reason)
        return {"policy": approval_json(approval, live.clock.now()), "bypass": None}


def _add_bypasses(router: APIRouter, state: AdminState) -> None:
    live, emergencies = state.staging.live, state.staging.emergencies

    @router.get("/bypasses")
    async def listed(query: Annotated[BypassQuery, Query()]) -> Any:
        await live.load()
        return {"bypasses": _bypasses(state, live.clock.now(), every=query.all)}

    @router.post("/bypasses")
    async def request_(new: NewBypass, request: Request) -> Any:
        bypass = await emergencies.request_bypass(
            new.namespace,
            new.labels,
            lifetime=timedelta(seconds=min(new.seconds, 10**9)),
            actor=get_peer(request.scope).actor,
            reason=new.reason,
        )
        return bypass_json(bypass, live.clock.now())

    @router.post("/bypasses/{name}/end")
    async def end(name: BypassPath, asked: JustReason, request: Request) -> Any:
        actor = get_peer(request.scope).actor
        bypass = await emergencies.end_bypass(name, actor=actor, reason=asked.reason)
        return bypass_json(bypass, live.clock.now())


def _bypasses(state: AdminState, now: datetime, *, every: bool) -> list[Any]:
    standing = state.staging.live.standing.bypasses.values()
    known = sorted(standing, key=lambda bypass: bypass.requested_at, reverse=True)
    alive = (BypassState.REQUESTED, BypassState.IN_FORCE)
    return [bypass_json(b, now) for b in known if every or b.state(now) in alive]
