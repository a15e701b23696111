"""Routes of the log's own keys, and of examining the log with what others hold against it."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from admin import views
from admin.state import AdminState
from admin.visitor import get_visitor
from audit.examination import Examination, Examined
from audit.index.check import check_index, in_short
from audit.log_keys import LogKey, read_log_keys
from audit.note import VerifierKey
from audit.verify_workers import processes
from meshca.errors import EvidenceBroken

MAXIMUM_ANCHORS: Final = 10_000
MAXIMUM_KEYS: Final = 64


class Against(BaseModel):
    """What to hold the log to: checkpoints that others kept, and the only keys to believe.

    With `index` the search index is then held to the log.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    anchors: Annotated[list[str], Field(max_length=MAXIMUM_ANCHORS)] = Field(default=[])
    keys: Annotated[list[Annotated[str, Field(max_length=512)]], Field(max_length=MAXIMUM_KEYS)] = (
        Field(default=[])
    )
    index: Annotated[bool, Field(strict=True)] = False


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/audit/keys")
    def keys() -> Any:
        found = read_log_keys(state.engine, state.signer.origin)
        return {"origin": state.signer.origin, "keys": [_key_json(key) for key in found]}

    @router.post("/audit/keys/rotate")
    async def rotate(request: Request) -> Any:
        actor = get_visitor(request.scope).actor
        return {"key": _key_json(await state.signer.keys.rotate(actor=actor))}

    @router.get("/audit/verify")
    async def verify() -> Any:
        return await _verify(state, Against())

    @router.post("/audit/verify")
    async def verify_against(against: Against) -> Any:
        return await _verify(state, against)

    return router


def _key_json(key: LogKey) -> views.Json:
    return {
        "id": key.key_id,
        "key": key.verifier,
        "replica": key.replica,
        "stage": key.stage,
        "introduced_at": views.time_text(key.introduced_at),
        "retires_at": None if key.retires_at is None else views.time_text(key.retires_at),
    }


async def _verify(state: AdminState, against: Against) -> views.Json:
    believed = [VerifierKey.parse(text) for text in against.keys]
    try:
        examination = Examination(
            engine=state.engine,
            origin=state.signer.origin,
            keys=believed,
            own=[key.verifier for key in await state.signer.keys.prepare()],
            anchors=against.anchors,
            memory=await asyncio.to_thread(state.signer.last.notes, state.signer.origin),
            workers=processes(),
        )
        told = _well_json(await asyncio.to_thread(examination.run))
    except EvidenceBroken as error:
        return _broken_json(error)
    if against.index:
        told["index"] = await asyncio.to_thread(lambda: in_short(check_index(state.engine)))
    return told


def _well_json(examined: Examined) -> views.Json:
    return {
        "intact": True,
        "entries": examined.head.size,
        "root": examined.head.root.hex(),
        "problem": "",
        "first_broken": None,
        "signed": examined.signed,
        "checkpoints": examined.checkpoints,
        "anchors": examined.anchors,
        "redacted": examined.redacted,
        "keys": [str(key) for key in examined.keys],
        "index": None,
    }


def _broken_json(error: EvidenceBroken) -> views.Json:
    return {
        "intact": False,
        "entries": error.index,
        "root": "",
        "problem": str(error),
        "first_broken": error.index,
        "signed": 0,
        "checkpoints": 0,
        "anchors": 0,
        "redacted": 0,
        "keys": [],
        "index": None,
    }
