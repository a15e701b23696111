"""Routes of decisions: asking for one, and reading those that were recorded.

`POST /authz/check` takes one request, or `{"requests": [...]}`; both in the shape of `authz.check`.
Applications ask about their own workload (`admin.applications`). Deciding needs no database;
records are read off the event loop.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from admin.applications import MAXIMUM_REQUESTS, NotItsWorkload
from admin.state import AdminState
from admin.visitor import Visit, get_visit
from authz.check import check as check_request
from authz.records.decisions import DecisionQuery, Decisions, Distinct, Recorded
from authz.records.operation import Operation, parse_labels
from authz.records.tables import Outcome
from meshca.errors import RequestRefused

MAXIMUM_LIMIT: Final = 1_000
REQUESTS: Final = "requests"
_ASKED: Final[dict[str, Any]] = {
    "properties": {name: {} for name in (REQUESTS, "id", "time", "source", "destination", "http")}
}
"""What a body of /authz/check may hold, which is what is recorded of it; `authz.asked` parses."""
_DEFAULT_AGE: Final = timedelta(days=1)
_AT_ONCE: Final = 100


class _Filters(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    since: AwareDatetime | None = None
    verdict: Literal["allow", "deny"] | None = None
    source: str | None = None
    destination: str | None = None
    policy: str | None = None


class DecisionsQuery(_Filters):
    """Filters of /decisions; `cursor` is `next` of the page before."""

    limit: int = Field(default=100, ge=1, le=MAXIMUM_LIMIT)
    cursor: int | None = None


class SummaryQuery(_Filters):
    """Filters of /decisions/summary: the most frequent first, of the last day unless said."""

    limit: int = Field(default=100, ge=1, le=MAXIMUM_LIMIT)


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    decisions = Decisions(state.engine)

    @router.post("/authz/check")
    async def check(
        asked: Annotated[dict[str, Any], Body(json_schema_extra=_ASKED)], request: Request
    ) -> Any:
        return await _check(state, asked, get_visit(request.scope))

    @router.get("/decisions")
    async def recorded(query: Annotated[DecisionsQuery, Query()]) -> Any:
        wanted = DecisionQuery(**query.model_dump())
        since = query.since or state.clock.now() - _DEFAULT_AGE
        found = await asyncio.to_thread(decisions.find, wanted)
        return {
            "decisions": [recorded_json(each) for each in found],
            "next": found[-1].number if len(found) == query.limit else None,
            "unrecorded": await asyncio.to_thread(decisions.lost, since),
        }

    @router.get("/decisions/summary")
    async def summary(query: Annotated[SummaryQuery, Query()]) -> Any:
        since = query.since or state.clock.now() - _DEFAULT_AGE
        return await asyncio.to_thread(_summary, decisions, query, since)

    return router


async def _check(state: AdminState, asked: dict[str, Any], visit: Visit) -> Any:
    version = state.policies.current.version
    if REQUESTS not in asked:
        (answer,) = await _answers(state, [asked], visit)
        return {**answer, "version": version}
    requests = asked[REQUESTS]
    if len(asked) > 1 or not isinstance(requests, list):
        raise RequestRefused("invalid_request", "`requests` is a list, and stands alone")
    if len(requests) > MAXIMUM_REQUESTS:
        raise RequestRefused("too_many", f"at most {MAXIMUM_REQUESTS} requests at once")
    return {"version": version, "answers": await _answers(state, requests, visit)}


async def _answers(state: AdminState, requests: list[Any], visit: Visit) -> list[Any]:
    visitor = visit.visitor
    if visitor is None or visitor.is_only_application:
        return await _for_application(state, requests, visit)
    policies, now = state.policies.current, state.clock.now().timestamp()
    answers = []
    for number, request in enumerate(requests):
        if number % _AT_ONCE == _AT_ONCE - 1:
            await asyncio.sleep(0)  # proxies ask on the same loop
        answers.append(check_request(policies, request, now=now))
    return answers


async def _for_application(state: AdminState, requests: list[Any], visit: Visit) -> list[Any]:
    visitor, access = visit.visitor, state.access
    if visitor is None:
        raise LookupError("nobody was attested")
    try:
        return await state.applications.check(visitor, requests, visit.request_id)
    except NotItsWorkload as error:
        access.refuse(error, visit, visitor.address, visitor)
        raise


def _summary(decisions: Decisions, query: SummaryQuery, since: datetime) -> Any:
    found = [each for each in decisions.distinct(since) if _is_wanted(each, query)]
    found.sort(key=lambda each: each.count, reverse=True)
    return {
        "decisions": [distinct_json(each) for each in found[: query.limit]],
        "distinct": len(found),
        "requests": sum(each.count for each in found),
        "unrecorded": decisions.lost(since),
    }


def _is_wanted(each: Distinct, query: SummaryQuery) -> bool:
    asked = (
        (query.verdict, (each.outcome.verdict,)),
        (query.source, (each.source,)),
        (query.destination, (each.operation.destination, each.namespace)),
        (query.policy, (each.outcome.policy,)),
    )
    return all(wanted is None or wanted in has for wanted, has in asked)


def recorded_json(recorded: Recorded) -> dict[str, Any]:
    """Return a decision in full as JSON."""
    return {
        "number": recorded.number,
        "time": recorded.at.isoformat(),
        "door": recorded.door,
        **_outcome(recorded.outcome),
        "reason": recorded.reason,
        **_operation(recorded.operation),
        "sni": recorded.sni,
        "source_ip": recorded.source_ip,
        "remote_ip": recorded.remote_ip,
        "shadow": recorded.shadow or None,
        "details": dict(recorded.details),
    }


def distinct_json(distinct: Distinct) -> dict[str, Any]:
    """Return a distinct decided request as JSON."""
    return {
        "count": distinct.count,
        "first": distinct.first.isoformat(),
        "last": distinct.last.isoformat(),
        **_outcome(distinct.outcome),
        **_operation(distinct.operation),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {
        "verdict": outcome.verdict,
        "policy": outcome.policy or None,
        "rule": outcome.rule,
    }


def _operation(operation: Operation) -> dict[str, Any]:
    return {
        "source": operation.source or None,
        "destination": operation.destination,
        "namespace": operation.namespace,
        "labels": dict(parse_labels(operation.labels)),
        "protocol": operation.protocol,
        "port": operation.port,
        "method": operation.method,
        "path": operation.path,
        "host": operation.host,
    }
