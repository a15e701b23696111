"""Routes of policy and of renewals. Each change is audited with who made it and why."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from admin import views
from admin.peer import get_peer
from admin.state import AdminState
from audit.entry import Entry, Json
from authz import store
from authz.check import check as check_request
from authz.sources import PreparedChange
from meshca.errors import RequestRefused
from meshca.spiffe_id import SpiffeId

MAXIMUM_REASON = 1_000
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAXIMUM_REASON)
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewPolicies(_Strict):
    """The whole new applied set as YAML, and why it is applied."""

    documents: str
    reason: Reason


class Checks(_Strict):
    """Requests to decide about by the set in force, in the shape of `authz.check`."""

    requests: list[Any]


class Renewal(_Strict):
    """Whose certificates to renew."""

    spiffe_id: str = Field(max_length=2048)


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/policies")
    def policies() -> Any:
        applied = store.latest(state.engine)
        return {
            **views.policy_set_json(state.policies.current),
            "applied": None if applied is None else views.applied_json(applied),
        }

    @router.get("/policies/applied/{version}")
    def applied(version: int) -> Any:
        return views.applied_json(store.get(state.engine, version))

    @router.post("/policies")
    async def apply(new: NewPolicies, request: Request) -> Any:
        return await _apply(state, new, get_peer(request.scope).actor)

    @router.post("/authz/check")
    def check(checks: Checks) -> Any:
        policies = state.policies.current
        return {
            "version": policies.version,
            "answers": [check_request(policies, request) for request in checks.requests],
        }

    @router.post("/svids/renew")
    async def renew(renewal: Renewal, request: Request) -> Any:
        return await _renew(state, renewal, get_peer(request.scope).actor)

    return router


async def _apply(state: AdminState, new: NewPolicies, actor: str) -> views.Json:
    async def record(prepared: PreparedChange) -> None:
        entry = policy_change_entry(state, prepared, actor)
        await state.writer.submit(prepared.applied, entry)

    prepared = await state.loader.apply(
        new.documents, author=actor, reason=new.reason, record=record
    )
    change = prepared.change
    return {
        "applied_version": prepared.applied.version,
        "version": change.after,
        "added": list(change.added),
        "removed": list(change.removed),
        "changed": list(change.changed),
        "warnings": [str(problem) for problem in prepared.policies.warnings],
    }


def policy_change_entry(state: AdminState, prepared: PreparedChange, actor: str) -> Entry:
    """Return the audit entry of an applied set: who, why, and which policies differ."""
    change = prepared.change
    details: dict[str, Json] = {
        "applied_version": prepared.applied.version,
        "summary": str(change),
        "before": change.before,
        "after": change.after,
        "added": list(change.added),
        "removed": list(change.removed),
        "changed": list(change.changed),
    }
    return Entry(
        time=state.clock.now(),
        kind="policy_change",
        outcome="done",
        actor=actor,
        reason=prepared.applied.reason,
        details=details,
    )


async def _renew(state: AdminState, renewal: Renewal, actor: str) -> views.Json:
    try:
        spiffe_id = str(SpiffeId.parse(renewal.spiffe_id))
    except ValueError as error:
        raise RequestRefused("spiffe_id", f"not a SPIFFE ID: {error}") from error
    renewed = await state.renew(spiffe_id)
    if renewed:
        entry = Entry(
            time=state.clock.now(),
            kind="renewal",
            outcome="done",
            actor=actor,
            spiffe_id=spiffe_id,
            details={"renewed": renewed},
        )
        await state.writer.submit(entry)
    return {"spiffe_id": spiffe_id, "renewed": renewed}
