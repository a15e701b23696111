"""SVIDs through the issuance function, each durable on SQLite before it is signed.

Everything is what `meshca serve` builds (wiring, settings, migrations), without a door in front.
`per core` is per second of this process's CPU time, writer thread included; wall time includes the
disk. A crowd of callers keeps a fixed number of requests in flight.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

import uvloop

from benchmarks.development import (
    Development,
    built,
    certificate_request,
    spiffe_id,
    temporary,
)
from benchmarks.figure import Context, Row, Target
from benchmarks.floor import in_floors
from ca.request import from_csr, generate
from identity.caller import Caller, Evidence
from meshca.clock import SystemClock
from meshca.service import calm_collector
from meshca.spiffe_id import SpiffeId
from meshca.wiring import Service
from rotation.credential import make_credential

TITLE = "Issuance function, durable record on SQLite"
TARGET = Target(4000)
CSRS = 512
ROUNDS = 5

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
    def per_second(self) -> float:
        """Return how many were done in a second of wall time."""
        return self.operations / self.wall_seconds


def run(context: Context) -> Iterator[Row]:
    """Measure the CSR path at 64 and 256 in flight, and the path of keys made for proxies."""
    with (
        temporary() as development,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        running(runner, development) as service,
    ):
        for what, issue, in_flight in (
            ("CSR, 64 in flight", csr_path(service), 64),
            ("CSR, 256 in flight", csr_path(service), 256),
            ("key made by the server, 64 in flight", key_path(service), 64),
        ):
            yield _path(context, runner, what, issue, in_flight)


def _path(context: Context, runner: asyncio.Runner, what: str, issue: Issue, in_flight: int) -> Row:
    count = context.scale(10_000, 1000)
    runner.run(crowd(issue, in_flight * 2, in_flight))
    rounds = []
    with context.progress(what, ROUNDS * count) as advance:
        for number in range(1, ROUNDS + 1):
            rounds.append(context.beside_floor(lambda: runner.run(crowd(issue, count, in_flight))))
            advance(number * count)
    spent = median(each.cpu_seconds for _, each in rounds) / count * 1e6
    ratio = median(each.cpu_us / floor.issue_us for floor, each in rounds)
    wall = median(each.per_second for _, each in rounds)
    note = f"{spent:.0f} µs CPU each; {wall:,.0f}/s wall"
    return Row(f"SVIDs, {what}", 1e6 / spent, "/s per core", in_floors(ratio), TARGET, note)


@contextlib.contextmanager
def running(runner: asyncio.Runner, development: Development) -> Iterator[Service]:
    service = built(development.settings)
    entered = runner.run(_enter(service))
    try:
        yield service
    finally:
        runner.run(entered.aclose())
        service.engine.dispose()


async def _enter(service: Service) -> contextlib.AsyncExitStack:
    """Start the writer and give the service its authority; no door opens."""
    stack = contextlib.AsyncExitStack()
    await stack.enter_async_context(service.writer)
    await service.intermediates.load()
    calm_collector()
    return stack


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
