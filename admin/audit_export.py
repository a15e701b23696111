"""The route that exports the audit log: one long answer, made page by page as it is read.

What cannot be exported is refused before the answer begins. An answer that breaks off later is
never ended as if it were whole: the client sees the connection break, and goes on from the last
entry that it has (`from`, with `continued`).
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from admin.state import AdminState
from audit.anchors.store import newest_cosigned
from audit.checkpoints import newest_checkpoint
from audit.export.chosen import Chosen
from audit.export.partial import Format
from audit.export.times import stretch
from audit.export.writing import Export, plan, write
from meshca.errors import NotFound, RequestRefused

_Index = Annotated[int, Field(ge=0, le=2**63 - 1)]
_Text = Annotated[str, Field(min_length=1, max_length=2048)]
MEDIA_TYPES: Final = {
    "jsonl": "application/jsonl",
    "ocsf": "application/jsonl",
    "csv": "text/csv; charset=utf-8; header=present",
    "cef": "text/plain; charset=utf-8",
}


class ExportQuery(BaseModel):
    """What to export: a stretch of the log, by index or by time, and what of it.

    With `continued` what stands at the beginning of a file is left out; with `witnessed` it is what
    a witness has cosigned, which may end a little before what is signed.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    format: Format = "jsonl"
    start: _Index | None = Field(default=None, alias="from")
    stop: _Index | None = Field(default=None, alias="to")
    since: datetime | None = None
    until: datetime | None = None
    kind: _Text | None = None
    outcome: _Text | None = None
    actor: _Text | None = None
    spiffe_id: _Text | None = None
    cluster: _Text | None = None
    namespace: _Text | None = None
    continued: bool = False
    witnessed: bool = False

    def chosen(self) -> Chosen:
        """Return the filter; raises RequestRefused for what is unknown."""
        names = Chosen.__dataclass_fields__
        return Chosen(**{name: getattr(self, name) for name in names})


def create_router(state: AdminState) -> APIRouter:
    """Return the route."""
    router = APIRouter()

    @router.get("/audit/export")
    def export(query: Annotated[ExportQuery, Query()]) -> StreamingResponse:
        asked = _plan(state, query)
        media_type = MEDIA_TYPES[asked.format]
        return StreamingResponse(_begun(write(state.log, asked)), media_type=media_type)

    return router


def _plan(state: AdminState, query: ExportQuery) -> Export:
    start, stop = _range(state, query)
    return plan(
        state.log,
        origin=state.signer.origin,
        version=state.version,
        start=start,
        stop=stop,
        format=query.format,
        chosen=query.chosen(),
        is_continued=query.continued,
        is_witnessed=query.witnessed,
    )


def _range(state: AdminState, query: ExportQuery) -> tuple[int, int | None]:
    if query.since is None and query.until is None:
        return query.start or 0, query.stop
    if query.stop is not None:
        raise RequestRefused("range", "give `to` or times, not both")
    found = stretch(state.engine, query.since, query.until)
    if found is None:
        raise NotFound("no entry is of that time")
    newest = newest_cosigned if query.witnessed else newest_checkpoint
    kept = newest(state.engine, state.signer.origin)
    signed = found.stop if kept is None else min(found.stop, kept.size)
    return max(found.start, query.start or 0), signed


def _begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Return `chunks`, of which the first is made now: what fails then is an answer of its own."""
    return chain([next(chunks)], chunks)
