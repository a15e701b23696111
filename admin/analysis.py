"""Routes that ask about every request at once: differences, who can call whom, paths.

They read, and change nothing. Each runs in a thread, one at a time, and answers 429 after
MAXIMUM_SECONDS; what it was asked is bounded by the analysis itself (`authz.analysis.bounds`).
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from admin.state import AdminState
from authz import store
from authz.analysis.access import what_can, who_can
from authz.analysis.difference import difference
from authz.analysis.reach import MAXIMUM_HOPS, Service, reach
from authz.analysis.report import access_json, difference_json, reach_json
from authz.analysis.sides import Within
from authz.policy import PolicySet
from authz.workload import Workload
from meshca.errors import NotFound, Overloaded, RequestRefused
from meshca.spiffe_id import SpiffeId

MAXIMUM_SECONDS = 60.0
MAXIMUM_SERVICES = 1_000
_APPLIED: Final = "applied:"

Answer = TypeVar("Answer")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Documents(_Strict):
    """Policies as YAML, in the place of the applied set."""

    documents: str


Operand = Literal["current", "staged"] | Annotated[str, Field(pattern="^applied:[0-9]{1,9}$")]


class Comparison(_Strict):
    """Two sets: in force (`current`), on trial (`staged`), `applied:N`, or documents."""

    before: Operand | Documents
    after: Operand | Documents
    proposed: StrictBool = False


class Narrowed(_Strict):
    """What of a request is asked about; what is left out is any."""

    source: str | None = None
    port: Annotated[int, Field(ge=0, le=65535, strict=True)] | None = None
    protocol: Literal["http", "tcp"] | None = None
    method: str | None = None
    path: str | None = None
    host: str | None = None

    def within(self) -> Within:
        """Return it as the analysis takes it."""
        said = self.model_dump(include=set(Narrowed.model_fields) - {"source"})
        source = None if self.source is None else str(identity(self.source))
        return Within(source=source and source.removeprefix("spiffe://"), **said)


class Destination(_Strict):
    """One workload."""

    namespace: Annotated[str, Field(min_length=1, max_length=253)]
    labels: dict[str, str] = {}

    def workload(self) -> Workload:
        """Return it as policies select it."""
        return Workload(self.namespace, self.labels)


class WhoCan(Narrowed):
    """Whom to ask about."""

    destination: Destination


class Named(Destination):
    """A workload, and the identity that it calls others with."""

    spiffe_id: str


class ReachQuestion(_Strict):
    """From whom to where; `services` are those of connected proxies when they are left out."""

    source: str
    destination: Destination
    services: Annotated[list[Named], Field(max_length=MAXIMUM_SERVICES)] | None = None
    hops: Annotated[int, Field(ge=1, le=MAXIMUM_HOPS, strict=True)] = MAXIMUM_HOPS


def create_router(state: AdminState) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    turn = asyncio.Semaphore(1)

    async def run(work: Callable[[float], Answer]) -> Answer:
        return await in_turn(turn, lambda: work(state.clock.now().timestamp()))

    @router.post("/authz/diff")
    async def diff(asked: Comparison) -> Any:
        return await run(lambda now: _difference(state, asked, now))

    @router.post("/authz/who-can")
    async def who(asked: WhoCan) -> Any:
        policies, within = state.policies.current, asked.within()
        workload = asked.destination.workload()
        return await run(
            lambda now: access_json(
                who_can(policies, workload, now=now, within=within), version=policies.version
            )
        )

    @router.post("/authz/what-can")
    async def what(asked: Narrowed) -> Any:
        policies, within = state.policies.current, asked.within()
        if within.source is None:
            raise RequestRefused("source", "source: missing")
        source, known = within.source, [service.workload for service in connected(state)]
        return await run(
            lambda now: access_json(
                what_can(policies, source, now=now, within=within, known=known),
                version=policies.version,
            )
        )

    @router.post("/authz/reach")
    async def reachable(asked: ReachQuestion) -> Any:
        policies, source = state.policies.current, identity(asked.source)
        named = asked.services
        services = connected(state) if named is None else [_service(each) for each in named]
        destination = asked.destination.workload()
        return await run(
            lambda now: reach_json(
                reach(policies, source, destination, services, now=now, hops=asked.hops),
                version=policies.version,
            )
        )

    return router


async def in_turn(
    turn: asyncio.Semaphore, work: Callable[[], Answer], *, seconds: float = MAXIMUM_SECONDS
) -> Answer:
    """Return what `work`, in a thread, returns; one at a time.

    Raises Overloaded when it takes too long; the thread ends by itself, within its bounds, and
    until then nobody else has a turn.
    """
    try:
        async with asyncio.timeout(seconds):
            await turn.acquire()
            running = asyncio.ensure_future(asyncio.to_thread(work))
            running.add_done_callback(lambda _: turn.release())
            return await asyncio.shield(running)
    except TimeoutError as error:
        raise Overloaded(f"the analysis took more than {seconds:.0f} s") from error


def identity(text: str) -> SpiffeId:
    """Return the SPIFFE ID of a workload; raises RequestRefused."""
    scheme = "" if text.startswith("spiffe://") else "spiffe://"
    try:
        parsed = SpiffeId.parse(scheme + text)
    except ValueError as error:
        raise RequestRefused("spiffe_id", f"not a SPIFFE ID: {error}") from error
    if not parsed.is_leaf:
        raise RequestRefused("spiffe_id", f"{text[:200]} is a trust domain, which nobody carries")
    return parsed


def connected(state: AdminState) -> list[Service]:
    """Return the workloads of connected proxies, as their policies select them."""
    services = {}
    for proxy in state.proxies.connected():
        parsed = SpiffeId.parse(proxy.spiffe_id)
        workload = proxy.workload or Workload(proxy.namespace)
        services[parsed, workload] = Service(workload, parsed)
    return list(services.values())


def _service(named: Named) -> Service:
    return Service(named.workload(), identity(named.spiffe_id))


def _difference(state: AdminState, asked: Comparison, now: float) -> dict[str, Any]:
    before, after = _set(state, asked.before), _set(state, asked.after)
    found = difference(before, after, now=now, proposed=asked.proposed)
    return difference_json(found, before=before.version, after=after.version)


def _set(state: AdminState, operand: str | Documents) -> PolicySet:
    """Return the set that `operand` names; raises NotFound and InvalidDocument."""
    current = state.policies.current
    if operand == "current":
        return current
    if operand == "staged":
        candidate = state.staging.live.candidate  # a draft, too, which is in no overlay
        if candidate is None:
            raise NotFound("nothing is staged that loads")
        return candidate.under(state.staging.live.without_canary().overlay)
    if isinstance(operand, Documents):
        documents = operand.documents
    else:
        documents = store.get(state.engine, int(operand.removeprefix(_APPLIED))).documents
    return state.loader.load_with(documents).under(current.overlay)
