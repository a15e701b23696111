"""ext_authz Check as `meshca serve` answers it, beside an ext_authz that always says yes.

Both are served by this process with the same gRPC server, and asked by a client process with the
same requests; what is counted is this process's CPU time. Identity by token, 1,000 policies, every
decision recorded, and all that goes on behind that: what is written each second and minute, the
audit log's checkpoints and its index.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import uvloop
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from authz.providers import METHOD
from authz.workload import Workload
from benchmarks import policy_corpus
from benchmarks.development import NAMESPACE, Development, temporary
from benchmarks.figure import Context, Row, Target
from benchmarks.issuance import running
from benchmarks.process import Worker, workers
from meshca.service import share_interpreter
from meshca.wiring import Service
from sds.check_response import ALLOWED
from sds.grpc_server import OPTIONS, handlers
from sds.labels import write_labels

TITLE = "ext_authz"
POLICIES = 1_000
REQUESTS = 200
RATE = 1_000
IN_FLIGHT = 16
TARGET = Target(3.0, is_minimum=False)


def run(context: Context) -> Iterator[Row]:
    """Measure checks at a rate, and how many a core answers, of ours and of the yes-sayer."""
    with (
        temporary() as development,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        running(runner, development) as service,
    ):
        given = _prepare(development, service)
        with workers("check_client", [given]) as (client,):
            yield from runner.run(_measure(context, service, client))


def _prepare(development: Development, service: Service) -> dict[str, Any]:
    corpus = policy_corpus.spread(POLICIES, REQUESTS * 25)
    first = policy_corpus.to_request(corpus.requests[0]).destination
    for each in corpus.documents:  # the namespace in which development tokens are
        if each["metadata"]["namespace"] == first.namespace:
            each["metadata"]["namespace"] = NAMESPACE
    service.policies.state.replace(corpus.load())
    every = [policy_corpus.to_request(each) for each in corpus.requests]
    asked = [each for each in every if each.destination == first][:REQUESTS]
    workload = Workload(NAMESPACE, dict(first.labels))
    requests = Path(development.directory) / "checks"
    requests.write_text("\n".join(_message(each).hex() for each in asked))
    token = development.token("orders")
    return {"requests": str(requests), "token": token, "labels": write_labels(workload)}


def _message(request: Any) -> bytes:
    message = CheckRequest()
    attributes = message.attributes
    attributes.source.principal = "" if request.source is None else str(request.source)
    attributes.source.address.socket_address.address = "10.0.0.7"
    attributes.destination.address.socket_address.port_value = request.port or 8080
    if request.http is not None:
        http = attributes.request.http
        http.method, http.path = request.http.method or "GET", request.http.path or "/"
        http.host = "orders.shop"
        http.headers.update({f"x-header-{n}": "a value of some length" for n in range(12)})
    return bytes(message.SerializeToString())


async def _measure(context: Context, service: Service, client: Worker) -> list[Row]:
    share_interpreter()
    behind = [asyncio.ensure_future(loop()) for loop in _behind(service)]
    try:
        return await _rows(context, service, client)
    finally:
        for task in behind:
            task.cancel()
        await asyncio.gather(*behind, return_exceptions=True)


def _behind(service: Service) -> list[Callable[[], Awaitable[None]]]:
    """Return the loops of `meshca serve` that decisions give work to."""
    return [service.decisions.recorder.run, *service.audit.loops().values()]


async def _rows(context: Context, service: Service, client: Worker) -> list[Row]:
    ours, our_port = await _serve(handlers(replace(service.doors), mutual_tls=False))
    yes, yes_port = await _serve((_yes_sayer(),))
    count = context.scale(20_000, 1_000)
    at_rate = await _order(client, port=our_port, rate=RATE, count=count)
    yes_at_rate = await _order(client, port=yes_port, rate=RATE, count=count)
    yes_cpu = await _cpu_of(client, yes_port, count)
    our_cpu = await _cpu_of(client, our_port, count)
    yes_cpu = (yes_cpu + await _cpu_of(client, yes_port, count)) / 2
    for server in (ours, yes):
        await server.stop(0)
    beside = f"the yes-sayer's p99 {yes_at_rate['p99'] * 1e3:.2f}"
    note = f"p50 {at_rate['p50'] * 1e3:.2f} ms, {at_rate['rate']:,.0f}/s asked; {beside}"
    return [
        Row(f"p99 at {RATE:,} checks/s", at_rate["p99"] * 1e3, "ms", "", TARGET, note),
        Row(
            "checks/s of a core",
            1 / our_cpu,
            "/s",
            f"{yes_cpu / our_cpu:.2f} of the yes-sayer's",
            note=f"the yes-sayer {1 / yes_cpu:,.0f}; {our_cpu * 1e6:.0f} us CPU a check",
        ),
    ]


async def _serve(generic: Any) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(generic)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


def _yes_sayer() -> grpc.GenericRpcHandler:
    async def handle(_request: bytes, _context: Any) -> bytes:
        return ALLOWED

    service, _, method = METHOD[1:].rpartition("/")
    handler: Any = grpc.unary_unary_rpc_method_handler(handle)
    return grpc.method_handlers_generic_handler(service, {method: handler})


async def _order(client: Worker, **order: Any) -> dict[str, Any]:
    client.tell(**order)
    return await asyncio.to_thread(client.hear)


async def _cpu_of(client: Worker, port: int, count: int) -> float:
    """Return the CPU seconds that one check takes this process."""
    before = time.process_time()
    await _order(client, port=port, count=count, in_flight=IN_FLIGHT)
    return (time.process_time() - before) / count
