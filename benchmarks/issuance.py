"""SVIDs through the issuance function, each durable on SQLite before it is signed.

Everything is what `meshca serve` builds (wiring, settings, migrations), without a door in front.
`per core` is per second of this process's CPU time, writer thread included; wall time includes the
disk. A crowd of callers keeps a fixed number of requests in flight.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from benchmarks.development import Development, certificate_request, spiffe_id, temporary
from benchmarks.figure import Advance, Context, Row, Target
from benchmarks.floor import Floor, mean_floor
from ca.request import from_csr, generate
from identity.caller import Caller, Evidence
from meshca.clock import SystemClock
from meshca.database import migrate, open_engine
from meshca.metrics import Metrics
from meshca.spiffe_id import SpiffeId
from meshca.wiring import Service, build
from rotation.credential import make_credential

TITLE = "Issuance function, durable record on SQLite"
TARGET = Target(4000)
CSRS = 512
_ROUNDS = 3

Issue = Callable[[int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Spent:
    """What a number of operations took."""

    operations: int
    cpu_seconds: float
    wall_seconds: float

    @property
    def cpu_us(self) -> float:
        """Return the CPU microseconds of one."""
        return self.cpu_seconds / self.operations * 1e6

    @property
    def per_core(self) -> float:
        """Return how many one core does in a second."""
        return self.operations / self.cpu_seconds

    @property
    def per_second(self) -> float:
        """Return how many were done in a second of wall time."""
        return self.operations / self.wall_seconds


def run(context: Context) -> Iterator[Row]:
    """Measure the CSR path at 64 and 256 in flight, and the path of keys made for proxies."""
    count = context.scale(10_000, 1000)
    with temporary() as development:
        for what, path, in_flight in (
            ("CSR, 64 in flight", csr_path, 64),
            ("CSR, 256 in flight", csr_path, 256),
            ("key made by the server, 64 in flight", key_path, 64),
        ):
            with context.progress(what, count * _ROUNDS) as advance:
                floor, spent = asyncio.run(_measure(context, development, path, in_flight, advance))
            yield _row(what, floor, spent)


def _row(what: str, floor: Floor, spent: Spent) -> Row:
    note = f"{spent.cpu_us:.0f} µs CPU each; {spent.per_second:,.0f}/s wall"
    ratio = floor.ratio(spent.cpu_us)
    return Row(f"SVIDs, {what}", spent.per_core, "/s per core", ratio, TARGET, note)


async def _measure(
    context: Context,
    development: Development,
    path: Callable[[Service], Issue],
    in_flight: int,
    advance: Advance,
) -> tuple[Floor, Spent]:
    """Return the median of a few rounds, and the floor measured around them."""
    count = context.scale(10_000, 1000)
    async with built(development) as service:
        issue = path(service)
        await crowd(issue, in_flight * 2, in_flight)
        before, rounds = context.floor(), []
        for number in range(_ROUNDS):
            rounds.append(await crowd(issue, count, in_flight))
            advance((number + 1) * count)
        floor = mean_floor(before, context.floor())
    return floor, sorted(rounds, key=lambda spent: spent.cpu_seconds)[_ROUNDS // 2]


async def crowd(issue: Issue, count: int, in_flight: int) -> Spent:
    """Do `count` operations, `in_flight` at a time; return what they took."""
    numbers = iter(range(count))

    async def one_of_many() -> None:
        for number in numbers:
            await issue(number)

    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_of_many())
    return Spent(count, time.process_time() - cpu, time.perf_counter() - wall)


@contextlib.asynccontextmanager
async def built(development: Development) -> AsyncIterator[Service]:
    """Build the service and give it its authority; no door opens."""
    settings = development.settings
    engine = open_engine(settings.database_url)
    migrate(engine)
    service = build(settings, clock=SystemClock(), metrics=Metrics(), engine=engine)
    try:
        async with service.writer:
            await service.intermediates.load()
            yield service
    finally:
        engine.dispose()


def csr_path(service: Service) -> Issue:
    """Return what certifies a CSR: parse it, prove possession, issue."""
    caller = example_caller()
    requests = [certificate_request() for _ in range(CSRS)]

    async def issue(number: int) -> None:
        request = from_csr(requests[number % CSRS], caller.spiffe_id)
        await service.issuance.issue(caller, request)

    return issue


def key_path(service: Service) -> Issue:
    """Return what a proxy's first secret takes: make a key, issue, check what will be pushed."""
    caller = example_caller()

    async def issue(_number: int) -> None:
        key = generate()
        svid = await service.issuance.issue(caller, key.request)
        make_credential(svid, key.private_pem, service.authorities.bundle.roots)

    return issue


def example_caller() -> Caller:
    """Return an attested caller with evidence of the usual size."""
    return Caller(
        SpiffeId.parse(spiffe_id("web")),
        Evidence(
            method="kubernetes_jwks",
            cluster="prod-eu",
            issuer="https://kubernetes.default.svc",
            namespace="bench",
            service_account="web",
            service_account_uid="0b0e8a3c-8bb8-4e7e-8f43-4a9f6f0f2a11",
            pod_name="web-5d8f7c9b4-x2x7q",
            pod_uid="5f0d7f0a-6a57-4a5c-8b6b-2e1a4b0b9d22",
            node="node-1",
            token_id="7e0c7a52-6b66-4c8e-9a7a-9df1b2f0c333",  # noqa: S106  # a jti
        ),
        SystemClock().now() + timedelta(days=1),
    )
