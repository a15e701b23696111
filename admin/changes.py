"""Routes of renewals, and what is asked of every change: who made it, and why."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from admin import views
from admin.peer import get_peer
from admin.state import AdminState
from audit.entry import Entry
from meshca.errors import RequestRefused
from meshca.spiffe_id import SpiffeId

MAXIMUM_REASON = 1_000
Reason = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAXIMUM_REASON)
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Renewal(_Strict):
    """Whose certificates to renew."""

    spiffe_id: str = Field(max_length=2048)


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.post("/svids/renew")
    async def renew(renewal: Renewal, request: Request) -> Any:
        return await _renew(state, renewal, get_peer(request.scope).actor)

    return router


async def _renew(state: AdminState, renewal: Renewal, actor: str) -> views.Json:
    try:
        spiffe_id = str(SpiffeId.parse(renewal.spiffe_id))
    except ValueError as error:
        raise RequestRefused("spiffe_id", f"not a SPIFFE ID: {error}") from error
    renewed = await state.renew(spiffe_id)
    entry = Entry(
        time=state.clock.now(),
        kind="renewal",
        outcome="done" if renewed else "failed",
        actor=actor,
        spiffe_id=spiffe_id,
        reason="" if renewed else "nothing_to_renew",
        details={"renewed": renewed},
    )
    await state.writer.submit(entry)
    return {"spiffe_id": spiffe_id, "renewed": renewed}
