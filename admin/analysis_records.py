"""Routes that explain policy, and that hold it against what was recorded. None changes anything.

Each works in a thread: a replay of a week must not keep a proxy waiting. Of those that read records
one runs at a time, and one of the others; whoever gets no answer in MAXIMUM_SECONDS (of records,
MAXIMUM_RECORDS_SECONDS), waiting for a turn included, is answered 429.
"""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from admin.analysis import in_turn
from admin.state import AdminState
from authz.analysis.counterfactual import explained_check
from authz.analysis.explain import explain
from authz.analysis.lint import Known, find
from authz.analysis.replay import replay
from authz.analysis.suggest import suggest
from authz.records.decisions import Decisions
from authz.workload import Workload

MAXIMUM_LABELS = 64
MAXIMUM_SECONDS: Final = 25.0
MAXIMUM_RECORDS_SECONDS: Final = 570.0
"""Both are less than the command line waits."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ExplainedCheck(_Strict):
    """One request, in the shape of `authz.check`."""

    request: Any


class Explained(_Strict):
    """The workload whose effective policy to explain."""

    namespace: Annotated[str, Field(min_length=1, max_length=253)]
    labels: Annotated[dict[str, str], Field(max_length=MAXIMUM_LABELS)] = {}


class Replay(_Strict):
    """A draft as YAML, decided beside every other source, and the time whose records to decide."""

    documents: str
    since: AwareDatetime
    namespace: str | None = None


class Suggest(_Strict):
    """The time, and perhaps the destinations' namespace, to suggest policies for."""

    since: AwareDatetime
    namespace: str | None = None


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    turn, records_turn = asyncio.Semaphore(1), asyncio.Semaphore(1)

    @router.post("/authz/check/explained")
    async def check_explained(check: ExplainedCheck) -> Any:
        now = state.clock.now().timestamp()
        policies = state.policies.current
        return await in_turn(
            turn,
            lambda: explained_check(policies, check.request, now=now),
            seconds=MAXIMUM_SECONDS,
        )

    @router.post("/authz/explain")
    async def explain_workload(asked: Explained) -> Any:
        workload, now = Workload(asked.namespace, asked.labels), state.clock.now().timestamp()
        policies = state.policies.current
        return await in_turn(
            turn,
            lambda: explain(policies, workload, now=now).as_json(),
            seconds=MAXIMUM_SECONDS,
        )

    @router.post("/authz/replay")
    async def replay_draft(asked: Replay) -> Any:
        return await in_turn(
            records_turn, lambda: _replay(state, asked), seconds=MAXIMUM_RECORDS_SECONDS
        )

    @router.post("/authz/suggest")
    async def suggest_policies(asked: Suggest) -> Any:
        return await in_turn(
            records_turn, lambda: _suggest(state, asked), seconds=MAXIMUM_RECORDS_SECONDS
        )

    @router.get("/authz/findings")
    async def findings() -> Any:
        return await in_turn(turn, lambda: _findings(state), seconds=MAXIMUM_SECONDS)

    return router


def _findings(state: AdminState) -> dict[str, Any]:
    connected = state.proxies.connected()
    workloads = frozenset(proxy.workload for proxy in connected if proxy.workload is not None)
    identities = state.inventory.identities() | {proxy.spiffe_id for proxy in connected}
    policies = state.policies.current
    known = Known(identities, workloads or None)
    found = find(policies, known, now=state.clock.now().timestamp())
    answer = [finding.as_json() for finding in found]
    return {
        "version": policies.version,
        "identities": len(identities),
        "workloads": len(workloads),
        "findings": answer,
    }


def _replay(state: AdminState, asked: Replay) -> dict[str, Any]:
    draft, records = state.loader.load_with(asked.documents), Decisions(state.engine)
    decisions = records.distinct(asked.since, namespace=asked.namespace)
    found = replay(decisions, draft, now=state.clock.now())
    answer = {"version": draft.version, **found.as_json()}
    return {**answer, "lost": dict(records.lost(asked.since))}


def _suggest(state: AdminState, asked: Suggest) -> dict[str, Any]:
    policies, records = state.policies.current, Decisions(state.engine)
    suggestions = suggest(
        records.distinct(asked.since, namespace=asked.namespace),
        trust_domain=policies.trust_domain,
        root_namespace=policies.root_namespace,
        now=state.clock.now(),
    )
    answer = [suggestion.as_json() for suggestion in suggestions]
    return {"suggestions": answer, "lost": dict(records.lost(asked.since))}
