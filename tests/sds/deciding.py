"""The doors of decisions on a mesh in memory: what proxies ask and tell, and what is recorded."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse

from authz.policy import PolicySet
from authz.providers import Providers
from authz.records.observed import Observed
from authz.records.recorder import DecisionRecorder
from sds.access_log import AccessLogs
from sds.check_response import DENIED
from sds.ext_authz import ExtAuthz
from sds.known_callers import KnownCallers, Proof
from sds.workloads import Workloads
from tests.sds.conftest import Mesh, running
from tests.sds.proxy import PEER, Proxy

WEB = "spiffe://example.org/ns/shop/sa/web"
ORDERS_TOKEN = "shop/orders/orders-1"


def proof(token: str = ORDERS_TOKEN, **metadata: str) -> Proof:
    """Return the proof of a proxy with a bearer token."""
    return Proof({"authorization": f"Bearer {token}", **metadata}, b"", lambda: PEER)


def check_message(
    *,
    principal: str = WEB,
    method: str = "GET",
    path: str = "/items",
    host: str = "shop.example",
    headers: Mapping[str, str] | None = None,
    claims: Mapping[str, Any] | None = None,
    http: bool = True,
    port: int = 8443,
    source_ip: str = "10.0.0.7",
    certificate: str = "",
) -> CheckRequest:
    """Return a CheckRequest as Envoy makes them; override one thing."""
    message = CheckRequest()
    attributes = message.attributes
    attributes.source.principal = principal
    attributes.source.certificate = certificate
    attributes.source.address.socket_address.address = source_ip
    attributes.destination.principal = "spiffe://example.org/ns/bank/sa/vault"  # never believed
    attributes.destination.address.socket_address.address = "10.0.0.9"
    attributes.destination.address.socket_address.port_value = port
    attributes.tls_session.sni = "orders.shop"
    if http:
        request = attributes.request.http
        request.method, request.path, request.host = method, path, host
        request.headers.update({":method": method, ":path": path, **(headers or {})})
    if claims is not None:
        found = attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
        found.update({"payload": claims})
    return message


def quoted(certificate: x509.Certificate) -> str:
    """Return `certificate` as Envoy sends it along: PEM, URL-encoded."""
    return quote(certificate.public_bytes(Encoding.PEM).decode(), safe="")


@dataclass
class Deciding:
    """The doors, and what they recorded."""

    mesh: Mesh
    checks: ExtAuthz
    logs: AccessLogs
    recorder: DecisionRecorder
    seen: list[Observed] = field(default_factory=list)

    async def ask(self, message: CheckRequest, given: Proof | None = None) -> CheckResponse:
        """Return the answer to `message`."""
        answer = await self.checks.check(message.SerializeToString(), given or proof())
        return CheckResponse.FromString(answer)

    async def allows(self, given: Proof | None = None, **changes: Any) -> bool:
        """Return whether a request is allowed; a refusal must be the opaque one."""
        answer = await self.checks.check(
            check_message(**changes).SerializeToString(), given or proof()
        )
        response = CheckResponse.FromString(answer)
        if response.status.code == 0:
            return True
        assert answer == DENIED
        return False

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.mesh.metrics.registry.get_sample_value(name, labels) or 0.0


@contextlib.asynccontextmanager
async def deciding(
    mesh: Mesh,
    policies: PolicySet,
    *,
    engine: sa.Engine | None = None,
    providers: Providers | None = None,
    labels: Mapping[str, str] | None = None,
    connected: bool = True,
    **options: Any,
) -> AsyncIterator[Deciding]:
    """Open the doors; with `connected`, the stream of orders-1 has said its labels."""
    mesh.policies = policies
    callers, workloads = KnownCallers(mesh.doors.admission), Workloads(mesh.ledger)
    asked = providers or Providers()
    async with running(mesh):
        recorder = DecisionRecorder(mesh.writer, mesh.clock, mesh.metrics)
        shared: dict[str, Any] = {
            "callers": callers,
            "workloads": workloads,
            "policies": lambda: mesh.policies,
            "recorder": recorder,
            "clock": mesh.clock,
            "metrics": mesh.metrics,
        }
        checks = ExtAuthz(providers=asked, **shared)
        world = Deciding(mesh, checks, AccessLogs(**shared, **options), recorder)
        recorder.observers.subscribe(world.seen.append)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(asked.close)
            if connected:
                await stack.enter_async_context(_stream(mesh, labels or {"app": "orders"}))
            yield world


@contextlib.asynccontextmanager
async def _stream(mesh: Mesh, labels: Mapping[str, str]) -> AsyncIterator[None]:
    async with Proxy(mesh.doors, token=ORDERS_TOKEN) as proxy:
        proxy.subscribe("ROOTCA", node={"id": "orders-1", "metadata": {"labels": dict(labels)}})
        assert await proxy.receive() is not None
        yield
