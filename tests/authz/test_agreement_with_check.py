"""RBAC and Check together on a real Envoy against the engine, where RBAC alone cannot say it all.

Tokens are validated by the proxy; the provider that CUSTOM rules ask says yes to requests with
`x-guard: yes`; the time of a request is in `x-time`.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from authz.engine import compile_workload, decide, providers_for
from authz.jwt_filter import jwt_filter
from authz.request import Request
from sds.check_request import to_request as checked_request
from sds.check_response import ALLOWED, DENIED
from tests.authz.agreement import World, answered, make_worlds
from tests.authz.builders import load_text
from tests.authz.proxy import Checking, Ports, running_proxy
from tests.authz.world import CLAIMS, WORKLOAD, Asked, make_asked, make_clients, to_request
from tests.sds.token_issuer import TokenIssuer

SEED = 20261102
CASES = 120
REQUESTS = 20
TIMES = ("1", "4000000000")
ISSUER = TokenIssuer("https://iss.test")
AUTHENTICATION = f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: shop}}
spec: {{jwtRules: [{{issuer: "{ISSUER.name}", jwksUri: "{ISSUER.name}/keys"}}]}}
"""


@pytest.mark.end_to_end
def test_rbac_and_check_together_decide_as_the_engine(tmp_path: Path) -> None:
    random = Random(SEED)  # the same cases every time, but for the ports
    ports = Ports.free()
    making = (w for w in make_worlds(random, ports, checks_in_four=4) if not w.is_exact)
    worlds = [_with_check(world) for world in islice(making, CASES)]
    clients = make_clients(random, ports)
    asked = [
        (number, _claiming(random, make_asked(random, random.choice(clients))))
        for number in range(CASES)
        for _ in range(REQUESTS)
    ]
    tokens = jwt_filter(compile_workload(load_text(AUTHENTICATION), WORKLOAD), ISSUER.keys)
    cases = [world.case for world in worlds]
    with _serving(lambda request: _decide(worlds, request)) as port:
        checking = Checking(port, tokens)
        with running_proxy(tmp_path, ports, cases, tcp_cases=0, checking=checking) as proxy:
            said = [(worlds[n], each, answer) for n, each, answer in answered(proxy, asked)]
    wrong = [
        (each, answer, world.documents)
        for world, each, answer in said
        if answer.allowed is not _expected(world, each)
    ]
    assert not wrong, f"{len(wrong)}, the first: {wrong[0]}"
    assert 0.1 < sum(answer.allowed for _, _, answer in said) / len(said) < 0.9


def _with_check(world: World) -> World:
    return World(world.documents, world.default, with_check=True)


def _claiming(random: Random, asked: Asked) -> Asked:
    """Return `asked` with a token or none, a time, and what the provider will say."""
    assert asked.message is not None
    lines = [
        *asked.message.lines,
        ("x-guard", random.choice(("yes", "no"))),
        ("x-time", random.choice(TIMES)),
    ]
    if claims := random.choice(CLAIMS):
        lines.append(("authorization", f"Bearer {ISSUER.token(**claims)}"))
        lines.append(("x-claims", str(CLAIMS.index(claims))))
    return replace(asked, message=replace(asked.message, lines=tuple(lines)))


def _expected(world: World, asked: Asked) -> bool:
    assert asked.message is not None
    headers = dict(asked.message.lines)
    claims = CLAIMS[int(headers.get("x-claims", "0"))]
    request = to_request(asked, claims=claims, time=float(headers["x-time"]))
    # This proxy always adds to x-forwarded-for, and a Check does not say which hops are trusted.
    request = replace(request, remote_ip=None)
    return decide(world.policies, request, answers={"guard": headers["x-guard"] == "yes"}).allowed


def _decide(worlds: list[World], message: CheckRequest) -> bool:
    """Decide as our Check does, about a request to the case that it names."""
    headers = message.attributes.request.http.headers
    world = worlds[int(headers["x-case"])]
    request: Request = checked_request(message.attributes, WORKLOAD, float(headers["x-time"]))
    names = providers_for(world.policies, request)
    return decide(
        world.policies, request, answers=dict.fromkeys(names, headers["x-guard"] == "yes")
    ).allowed


@contextlib.contextmanager
def _serving(decide_one: Callable[[CheckRequest], bool]) -> Iterator[int]:
    """Serve ext_authz on a port of 127.0.0.1."""

    def check(message: bytes, _context: Any) -> bytes:
        return ALLOWED if decide_one(CheckRequest.FromString(message)) else DENIED

    methods: dict[str, Any] = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
