"""Routes of policy: what is in force and from where, the applied set and its versions.

Each change of the applied set is a new version, recorded with its audit entry in one transaction:
who, why, which documents differ, and how.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from admin.changes import Reason
from admin.peer import get_peer
from admin.policy_views import (
    applied_json,
    change_json,
    policy_set_json,
    sources_json,
    version_json,
)
from admin.state import AdminState
from admin.views import Json
from audit.entry import Entry
from authz import store
from authz.applied import Draft, Write, removing, replacing, restoring
from authz.sources import PreparedChange

MAXIMUM_NAMES = 1_000
MAXIMUM_VERSIONS = 1_000
Name = Annotated[
    str,
    StringConstraints(pattern="^([A-Za-z]{1,63}/)?[a-z0-9-]{1,63}/[a-z0-9.-]{1,253}$"),
]
Version = Annotated[int, Field(ge=0, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class _Change(_Strict):
    """Why; `expect_version` refuses when the applied set is another; `dry_run` records nothing."""

    reason: Reason
    expect_version: Version | None = None
    dry_run: StrictBool = False


class NewPolicies(_Change):
    """The whole new applied set as YAML; `empty` says that it may hold no policy."""

    documents: str
    empty: StrictBool = False


class Deletion(_Change):
    """The documents to take out: `NAMESPACE/NAME`, or `KIND/NAMESPACE/NAME`."""

    names: Annotated[list[Name], Field(min_length=1, max_length=MAXIMUM_NAMES)]


class Rollback(_Change):
    """The version whose documents are applied again."""

    version: Annotated[int, Field(ge=1, strict=True)]


class History(_Strict):
    """A page of versions, the newest first; `before` is `next` of the page before."""

    limit: int = Field(default=100, ge=1, le=MAXIMUM_VERSIONS)
    before: int | None = None


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    _add_reads(router, state)

    @router.post("/policies")
    async def apply(new: NewPolicies, request: Request) -> Any:
        write = replacing(new.documents)
        return await _change(state, new, write, request, may_be_empty=new.empty)

    @router.post("/policies/delete")
    async def delete(deletion: Deletion, request: Request) -> Any:
        return await _change(state, deletion, removing(deletion.names), request)

    @router.post("/policies/rollback")
    async def rollback(to: Rollback, request: Request) -> Any:
        return await _change(state, to, restoring(state.engine, to.version), request)

    return router


def _add_reads(router: APIRouter, state: AdminState) -> None:
    @router.get("/policies")
    async def policies() -> Any:
        applied = await asyncio.to_thread(store.latest, state.engine)
        return {
            **policy_set_json(state.policies.current),
            "sources": sources_json(state.loader.sources()),
            "problems": [str(problem) for problem in state.loader.problems],
            "applied": None if applied is None else applied_json(applied),
        }

    @router.get("/policies/applied")
    def history(query: Annotated[History, Query()]) -> Any:
        found = store.history(state.engine, limit=query.limit, before=query.before)
        is_full = len(found) == query.limit
        return {
            "versions": [version_json(version) for version in found],
            "next": found[-1].version if is_full else None,
        }

    @router.get("/policies/applied/{version}")
    def applied(version: int) -> Any:
        return applied_json(store.get(state.engine, version))


async def _change(
    state: AdminState,
    asked: _Change,
    write: Write,
    request: Request,
    *,
    may_be_empty: bool = True,
) -> Json:
    actor = get_peer(request.scope).actor
    draft = Draft(write, actor, asked.reason, asked.expect_version, may_be_empty)
    if asked.dry_run:
        return change_json(await state.loader.preview(draft), is_recorded=False)

    async def record(prepared: PreparedChange) -> None:
        await state.writer.submit(prepared.applied, policy_change_entry(state, prepared))

    prepared = await state.loader.change_applied(draft, record)
    return change_json(prepared, is_recorded=True)


def policy_change_entry(state: AdminState, prepared: PreparedChange) -> Entry:
    """Return the audit entry of an applied set: who, why, which policies differ, and how."""
    return Entry(
        time=state.clock.now(),
        kind="policy_change",
        outcome="done",
        actor=prepared.applied.author,
        policy=prepared.change.only,
        reason=prepared.applied.reason,
        details={
            "applied_version": prepared.applied.version,
            "summary": str(prepared.change),
            **prepared.change.recorded(prepared.diff),
        },
    )
