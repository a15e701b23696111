"""Routes that explain policy, and that hold it against what was recorded. None changes anything.

Each works in a thread of its own: a replay of a week must not keep a proxy waiting.
"""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from admin.state import AdminState
from authz.analysis.counterfactual import explained_check
from authz.analysis.explain import explain
from authz.workload import Workload

MAXIMUM_LABELS = 64


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ExplainedCheck(_Strict):
    """One request, in the shape of `authz.check`."""

    request: Any


class Explained(_Strict):
    """The workload whose effective policy to explain."""

    namespace: Annotated[str, Field(min_length=1, max_length=253)]
    labels: Annotated[dict[str, str], Field(max_length=MAXIMUM_LABELS)] = {}


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.post("/authz/check/explained")
    async def check_explained(check: ExplainedCheck) -> Any:
        return await asyncio.to_thread(explained_check, state.policies.current, check.request)

    @router.post("/authz/explain")
    async def explain_workload(asked: Explained) -> Any:
        workload, now = Workload(asked.namespace, asked.labels), state.clock.now().timestamp()
        return explain(state.policies.current, workload, now=now).as_json()

    return router
