"""Routes of retention, legal holds and backup.

No route redacts: that is for the rules of the configuration alone. A backup is one streamed answer;
what keeps it from beginning is an error, what breaks it off later leaves it without its end.
"""

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StringConstraints
from starlette.responses import Response, StreamingResponse

from admin.changes import Reason
from admin.state import AdminState
from admin.visitor import get_visitor
from audit.backup.pack import Backup
from audit.retention.expiry import preview
from audit.retention.hold_operations import hold_json
from audit.retention.holds import Scope
from meshca.errors import EvidenceBroken, RequestRefused, StoreUnavailable
from meshca.spiffe_id import SpiffeId

BACKUP_TYPE: Final = "application/gzip"
HoldName = Annotated[str, Path(pattern="^hold-[0-9a-f]{8}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=253)]
Serial = Annotated[str, StringConstraints(pattern="^[0-9a-f]{1,64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class NewHold(_Strict):
    """What to keep, everything or by conditions that all apply, and why."""

    reason: Reason
    reference: Annotated[str, StringConstraints(max_length=253)] = ""
    everything: StrictBool = False
    kinds: Annotated[list[Text], Field(max_length=64)] = Field(default=[])
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    spiffe_id: Annotated[str, StringConstraints(max_length=2048)] = ""
    namespace: Text | None = None
    cluster: Text | None = None
    serial: Serial | None = None


class JustReason(_Strict):
    """Why."""

    reason: Reason


class HoldQuery(_Strict):
    """`all`: also those that were released."""

    all: bool = False


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter(prefix="/audit")

    @router.get("/retention")
    def retention() -> Any:
        seen = preview(state.engine, state.rules, state.clock.now())
        return {
            "rules": state.rules.as_text(),
            "due": seen.due,
            "held": seen.held,
            "live": seen.live,
        }

    @router.get("/backup")
    async def backup() -> Response:
        made = Backup(state.engine, state.signer.origin, state.clock.now())
        return StreamingResponse(await asyncio.to_thread(_begun, made), media_type=BACKUP_TYPE)

    _add_holds(router, state)
    return router


def _add_holds(router: APIRouter, state: AdminState) -> None:
    @router.get("/holds")
    async def holds(query: Annotated[HoldQuery, Query()]) -> Any:
        found = await state.holds.holds(in_force=not query.all)
        return {"holds": [hold_json(hold, state.clock.now()) for hold in found]}

    @router.post("/holds")
    async def place(new: NewHold, request: Request) -> Any:
        hold = await state.holds.place(
            _scope(new),
            actor=get_visitor(request.scope).actor,
            reason=new.reason,
            reference=new.reference,
        )
        return hold_json(hold, state.clock.now())

    @router.post("/holds/{name}/release")
    async def release(name: HoldName, asked: JustReason, request: Request) -> Any:
        actor = get_visitor(request.scope).actor
        hold = await state.holds.release(name, actor=actor, reason=asked.reason)
        return hold_json(hold, state.clock.now())


def _scope(new: NewHold) -> Scope:
    return Scope(
        everything=new.everything,
        kinds=frozenset(new.kinds),
        since=new.since,
        until=new.until,
        spiffe_id=_identity(new.spiffe_id),
        namespace=new.namespace or "",
        cluster=new.cluster or "",
        serial=new.serial or "",
    )


def _identity(text: str) -> str:
    try:
        return str(SpiffeId.parse(text)) if text else ""
    except ValueError as error:
        raise RequestRefused("spiffe_id", f"not a SPIFFE ID: {error}") from error


def _begun(backup: Backup) -> Iterator[bytes]:
    """Return the chunks of `backup`, of which there is one: what hinders it is known by then."""
    chunks = backup.chunks()
    try:
        return chain((next(chunks),), chunks)
    except EvidenceBroken as error:
        raise StoreUnavailable(f"there is no backup of a log that is broken: {error}") from error
