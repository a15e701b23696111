"""Routes of the questions that auditors come with (admin/questions). All of them only read."""

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from admin.analysis import Destination, in_turn
from admin.questions.at import at_json
from admin.questions.certificate import Shown, certificate_json
from admin.questions.identity import identity_json
from admin.questions.report import Period, report_json
from admin.questions.report_page import report_page
from admin.state import AdminState
from admin.views import Json
from admin.visitor import get_visitor
from audit.filters import parse_serial, spelled
from audit.report_note import NAME, statement
from ca.holdings import Holdings
from meshca.errors import RequestRefused

REPORT_SECONDS: float = 1_800.0


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Identity(_Strict):
    """Whose life; `cursor` is `next` of the page before."""

    spiffe_id: str
    limit: int = Field(default=100, ge=1, le=1_000)
    cursor: int | None = Field(default=None, ge=0)


class Certificate(_Strict):
    """A serial, or a certificate in PEM as it was found; exactly one."""

    serial: str | None = None
    certificate: str | None = None

    def shown(self) -> Shown:
        """Return what is asked about; raises RequestRefused."""
        if (self.serial is None) == (self.certificate is None):
            raise RequestRefused("certificate", "give either a serial or a certificate")
        if self.certificate is not None:
            return Shown.parse(self.certificate)
        return Shown(parse_serial(self.serial or ""))


class At(_Strict):
    """When; with a destination also: who could call it then."""

    time: AwareDatetime
    destination: Destination | None = None


class Report(_Strict):
    """From `since` up to `until`, by default up to now."""

    since: AwareDatetime
    until: AwareDatetime | None = None


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    turn, reports = asyncio.Semaphore(1), asyncio.Semaphore(1)
    holdings = Holdings(state.engine)

    @router.get("/audit/identity")
    async def identity(asked: Annotated[Identity, Query()]) -> Any:
        name = spelled("spiffe_id", asked.spiffe_id)
        return await asyncio.to_thread(
            identity_json, state, holdings, name, limit=asked.limit, cursor=asked.cursor
        )

    @router.post("/audit/certificate")
    async def certificate(asked: Certificate) -> Any:
        shown = asked.shown()
        return await asyncio.to_thread(certificate_json, state, shown)

    @router.post("/audit/at")
    async def at(asked: At) -> Any:
        if asked.time > state.clock.now():
            raise RequestRefused("time", "the time lies in the future")
        workload = None if asked.destination is None else asked.destination.workload()
        return await in_turn(turn, lambda: at_json(state, holdings, asked.time, workload))

    @router.post("/audit/report")
    async def report(asked: Report, request: Request) -> Any:
        now = state.clock.now()
        period = Period(asked.since, asked.until or now, now)
        actor = get_visitor(request.scope).actor
        made = await in_turn(
            reports,
            lambda: _parts(report_json(state, holdings, period, actor=actor)),
            seconds=REPORT_SECONDS,
        )
        note = await state.signer.keys.sign(statement(state.signer.origin, str(period), made))
        return {**{name: data.decode() for name, data in made.items()}, NAME: str(note)}

    return router


def _parts(report: Json) -> dict[str, bytes]:
    """Return the files of the report, by name."""
    text = orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    return {"report.json": text + b"\n", "report.html": report_page(report).encode()}
