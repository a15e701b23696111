"""A real Envoy asks, and tells: its decisions are recorded once, each with what the engine says."""

import asyncio
import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from authz.policy import PolicySet
from authz.providers import Providers
from authz.records.decisions import DecisionQuery, Decisions
from authz.records.observed import ACCESS_LOG, EXT_AUTHZ, Observed
from authz.records.recorder import DecisionRecorder
from meshca.demo.ports import free_port
from sds.access_log import AccessLogs
from sds.ext_authz import ExtAuthz
from sds.known_callers import KnownCallers
from sds.workloads import Workloads
from tests.envoy import RunningEnvoy
from tests.fakes import FakeClock
from tests.real_parts import wait_until
from tests.sds.conftest import make_policies
from tests.sds.served import Peer, ServedMesh, echo_server

pytestmark = pytest.mark.end_to_end
SOON = 15
READ = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: read, namespace: shop}
spec:
  rules:
  - from: [{source: {principals: [example.org/ns/shop/sa/web]}}]
    to: [{operation: {methods: [GET]}}]
"""
TCP = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: db, namespace: shop}
spec: {rules: [{from: [{source: {principals: [example.org/ns/shop/sa/web]}}]}]}
"""


class _App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST = _answer  # noqa: N815  # the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its signature
        """Say nothing."""


@contextmanager
def app() -> Iterator[int]:
    """Serve an application that answers everything; give its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _App)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class DecidingMesh(ServedMesh):
    """A served mesh that answers Check and takes access logs, recording both."""

    def __init__(self, directory: Path, policies: str) -> None:
        super().__init__(directory)
        mesh = self.mesh
        mesh.policies = make_policies(policies)
        self.compared_with: PolicySet | None = None
        self.seen: list[Observed] = []
        self.recorder = DecisionRecorder(mesh.writer, mesh.clock, mesh.metrics)
        self.recorder.observers.subscribe(self.seen.append)
        callers, workloads = KnownCallers(mesh.doors.admission), Workloads(mesh.ledger)
        before = FakeClock(at=mesh.clock.at - timedelta(minutes=1))
        logs = AccessLogs(
            callers=callers,
            workloads=workloads,
            policies=lambda: self.compared_with or mesh.policies,
            recorder=self.recorder,
            clock=before,  # the set has been in force for a minute
            metrics=mesh.metrics,
        )
        before.advance(timedelta(minutes=1))
        checks = ExtAuthz(
            callers=callers,
            workloads=workloads,
            policies=lambda: mesh.policies,
            providers=Providers(),
            recorder=self.recorder,
            clock=mesh.clock,
            metrics=mesh.metrics,
        )
        mesh.doors = replace(mesh.doors, checks=checks, access_logs=logs)

    def told(self, door: str, count: int) -> list[Observed]:
        """Return what came through `door`, once there are `count`."""

        def come() -> list[Observed]:
            return [each for each in self.seen if each.door == door]

        wait_until(lambda: len(come()) >= count, within_seconds=SOON, what=f"{count} from {door}")
        return come()

    def flush(self) -> None:
        """Write everything that was recorded."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.recorder.close(), self._loop).result(10)

    def counted(self, outcome: str) -> float:
        """Return how many entries of access logs became `outcome`."""
        name = "meshca_access_log_entries_total"
        registry = self.mesh.metrics.registry
        return registry.get_sample_value(name, {"outcome": outcome}) or 0.0


def request(
    peer: Peer,
    port: int,
    method: str = "GET",
    path: str = "/items?token=x",
    headers: Mapping[str, str] | None = None,
) -> int:
    """Return the status of one request; 0 without an answer."""
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=peer.context())
    try:
        connection.request(method, path, headers=dict(headers or {}))
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


@contextmanager
def behind_envoy(mesh: DecidingMesh, **options: Any) -> Iterator[tuple[int, RunningEnvoy]]:
    """Run an application behind an Envoy; give the port that is reached."""
    port = free_port()
    with (
        app() as upstream,
        mesh.envoy(
            "orders",
            inbound=str(port),
            app=f"127.0.0.1:{upstream}",
            labels=("app=orders",),
            **options,
        ) as envoy,
    ):
        yield port, envoy


def test_what_rbac_decided_is_told_with_the_rule_and_the_near_miss(tmp_path: Path) -> None:
    with DecidingMesh(tmp_path, READ) as mesh, behind_envoy(mesh) as (port, _):
        web, thief = mesh.peer("web"), mesh.peer("thief")
        wait_until(lambda: request(web, port) == 200, within_seconds=SOON, what="a way through")
        assert request(web, port, path="/mine") == 200
        assert request(web, port, "POST", "/mine") == 403
        assert request(thief, port, path="/mine") == 403

        def mine() -> list[Observed]:
            return [o for o in mesh.seen if o.request.http and o.request.http.path == "/mine"]

        wait_until(lambda: len(mine()) == 3, within_seconds=SOON, what="three entries")
        told = mine()
    (allowed,) = [o for o in told if o.allowed]
    by_method = {o.request.http.method: o for o in told if o.request.http is not None}
    assert [o.allowed for o in told].count(False) == 2
    assert by_method["POST"].named == "default-deny"
    assert "methods: POST is none of GET" in by_method["POST"].decision.reason
    assert allowed.decision.policy == "shop/read"
    assert allowed.request.port == port
    assert (allowed.request.source_ip, allowed.request.remote_ip) == ("127.0.0.1", "127.0.0.1")
    assert {str(o.request.source) for o in told} == {
        "spiffe://example.org/ns/shop/sa/web",
        "spiffe://example.org/ns/shop/sa/thief",
    }
    assert dict(allowed.request.destination.labels) == {"app": "orders"}
    assert not any(o.disagrees or o.is_partial for o in told)


def test_what_rbac_cannot_say_is_asked_and_recorded_once(tmp_path: Path) -> None:
    with DecidingMesh(tmp_path, "") as mesh:
        ends = mesh.mesh.clock.now() + timedelta(hours=1)
        expires = f'{{name: read, namespace: shop, annotations: {{meshca.io/expires: "{ends:%Y-%m-%dT%H:%M:%SZ}"}}}}'  # noqa: E501  # one line of YAML
        mesh.mesh.policies = make_policies(READ.replace("{name: read, namespace: shop}", expires))
        with behind_envoy(mesh, trusted_hops="2") as (port, _):
            web = mesh.peer("web")
            wait_until(lambda: request(web, port) == 200, within_seconds=SOON, what="a way through")
            mesh.told(EXT_AUTHZ, 1)
            assert request(web, port, "POST") == 403
            before = mesh.counted("checked")
            mesh.mesh.clock.advance(timedelta(hours=2))
            forwarded = {"x-forwarded-for": "203.0.113.9, 127.0.0.1"}
            assert request(web, port, headers=forwarded) == 403, "it has ended, to the second"
            last = mesh.told(EXT_AUTHZ, 2)[-1]
            assert not last.allowed
            wait_until(
                lambda: mesh.counted("checked") > before, within_seconds=SOON, what="its log entry"
            )
    assert last.request.http is not None
    assert last.request.http.headers is not None
    assert last.request.http.headers[":authority"] == f"127.0.0.1:{port}"
    assert (last.request.source_ip, last.request.remote_ip) == ("127.0.0.1", "203.0.113.9")
    told = [o for o in mesh.seen if o.door == ACCESS_LOG and o.allowed]
    assert told == [], "what was allowed was asked about, and is not recorded twice"


def test_tcp_connections_are_told_when_they_end(tmp_path: Path) -> None:
    port = free_port()
    with DecidingMesh(tmp_path, TCP) as mesh, echo_server() as upstream:
        web, thief = mesh.peer("web"), mesh.peer("thief")

        def passes(peer: Peer) -> bool:
            try:
                with peer.tcp(port) as exchange:
                    return exchange()
            except OSError:
                return False

        with mesh.envoy("db", inbound_tcp=[f"127.0.0.1:{port}=127.0.0.1:{upstream}"]):
            wait_until(lambda: passes(web), within_seconds=SOON, what="a way through")
            assert not passes(thief)
            mesh.told(ACCESS_LOG, 2)
            wait_until(
                lambda: any(not o.allowed and o.request.source for o in mesh.seen),
                within_seconds=SOON,
                what="the refusal",
            )
    verdicts = {(str(o.request.source)[-5:], o.allowed) for o in mesh.seen if o.request.source}
    assert verdicts == {("a/web", True), ("thief", False)}
    assert all(o.request.http is None and o.request.port == port for o in mesh.seen)
    assert not any(o.disagrees for o in mesh.seen)


def test_a_proxy_that_decides_by_another_set_is_found_out(tmp_path: Path) -> None:
    with DecidingMesh(tmp_path, READ) as mesh, behind_envoy(mesh) as (port, _):
        web = mesh.peer("web")
        wait_until(lambda: request(web, port) == 200, within_seconds=SOON, what="a way through")
        mesh.compared_with = make_policies(READ.replace("sa/web", "sa/other"))
        assert request(web, port) == 200
        wait_until(
            lambda: any(o.disagrees for o in mesh.seen), within_seconds=SOON, what="the difference"
        )
    registry = mesh.mesh.metrics.registry
    assert registry.get_sample_value(
        "meshca_authz_disagreements_total", {"proxy": "allowed"}
    ) == sum(o.disagrees for o in mesh.seen)


def test_records_of_a_real_proxy_are_found_by_who_and_what(tmp_path: Path) -> None:
    with DecidingMesh(tmp_path, READ) as mesh, behind_envoy(mesh) as (port, _):
        web = mesh.peer("web")
        wait_until(lambda: request(web, port) == 200, within_seconds=SOON, what="a way through")
        assert request(web, port, "POST", "/admin?password=x") == 403
        mesh.told(ACCESS_LOG, 2)
        mesh.flush()
        decisions = Decisions(mesh.mesh.writer.engine)
        query = DecisionQuery(source="spiffe://example.org/ns/shop/sa/web", verdict="deny")
        (denied,) = decisions.find(query)
        allowed = [d for d in decisions.distinct(mesh.now - timedelta(hours=1)) if d.allowed]
    assert (denied.operation.path, denied.operation.method) == ("/admin", "POST")
    assert denied.operation.destination == "spiffe://example.org/ns/shop/sa/orders"
    assert {(d.path, d.outcome.policy) for d in allowed} == {("/items", "shop/read")}
