"""Two servers on one PostgreSQL: one gate over all proxies, taints heard by all, one is killed."""

import platform
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from ca.upstream.self_signed import add_root
from meshca.clock import SystemClock
from meshca.demo.app import EchoApp
from meshca.demo.traffic import Traffic
from tests.end_to_end.authorities import (
    assert_nothing_failed,
    assert_phases_came_in_order,
    authorities,
    follow,
    two_proxies,
)
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer
from tests.real_parts import envoy, wait_until
from tests.stores import postgresql

pytestmark = pytest.mark.end_to_end


@dataclass(frozen=True)
class Mesh:
    """Two servers, and a proxy at each; `frontend` calls `orders`."""

    a: RunningServer
    b: RunningServer
    frontend: Proxy
    """Is at `a`."""
    orders: Proxy
    """Is at `b`."""

    def traffic(self) -> Traffic:
        """Return calls of one at the other."""
        return Traffic(self.frontend.outbound["orders"])


def replica(
    directory: Path, name: str, database: str, *, root_of: RunningServer | None = None
) -> RunningServer:
    """Return a server that is one of several."""
    settings = {"replica": name, "database": database}
    return RunningServer(directory, settings=settings, root_of=root_of, svid="20s")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """Replicas `a` and `b` of one database, under one root."""
    envoy()
    directory = tmp_path_factory.mktemp("replicas")
    with (
        postgresql() as database,
        EchoApp() as app,
        replica(directory / "a", "a", database.url) as a,
        replica(directory / "b", "b", database.url, root_of=a) as b,
        two_proxies(a, app, orders_on=b) as (orders, frontend),
    ):
        yield Mesh(a, b, frontend, orders)


@pytest.fixture(scope="module", autouse=True)
def twin(mesh: Mesh) -> Iterator["Future[subprocess.CompletedProcess[str]]"]:
    """What becomes of a second `a`, which tries for some seconds: while other stories are told."""
    a = mesh.a
    second = replica(a.directory.parent / "twin", "a", a.settings["database"], root_of=a)
    with ThreadPoolExecutor() as pool:
        second.make()
        yield pool.submit(second.run, "serve")


def signing(server: RunningServer) -> str:
    """Return which authority a server signs with."""
    return str(server.query("ca", "show")["signing"])


def renew(proxy: Proxy) -> None:
    """Have the server of a proxy give it another certificate, now."""
    before = proxy.serials()
    proxy.server.meshca("svid", "renew", proxy.spiffe_id)
    wait_until(
        lambda: before.isdisjoint(proxy.serials()), within_seconds=10, what="another certificate"
    )


def keep_going(traffic: Traffic) -> None:
    """Wait until some hundred more requests were made, and as many as a story needs."""
    wanted = max(traffic.requests + 200, 500)
    wait_until(lambda: traffic.requests > wanted, within_seconds=30, what="more traffic")


def test_a_root_is_replaced_at_every_replica_without_a_failed_request(mesh: Mesh) -> None:
    a, b = mesh.a, mesh.b
    (before,) = a.query("ca", "show")["roots"]
    with mesh.traffic() as traffic:
        new = add_root(a.config.parent, trust_domain="example.org", now=SystemClock().now())
        renew(mesh.orders)  # what it has must do for a while
        with b.held():
            a.meshca("ca", "rotate-root", "--reason", "a test")
            assert_waits_for_replica(a, "b", mesh.orders)
        wait_until(
            lambda: len(mesh.orders.chain()) == 3,
            within_seconds=10,
            what="the other replica signs under the new root, and shows its bridge",
        )
        seen = follow(a, within_seconds=60)
        keep_going(traffic)
    assert_nothing_failed(traffic, mesh.frontend, mesh.orders)
    assert_phases_came_in_order([each["phases"] for each in seen[:-1]])
    for server in (a, b):
        assert_moved(server, before["root_sha256"], new)


def assert_waits_for_replica(server: RunningServer, other: str, proxy: Proxy) -> None:
    """Assert that the gate holds until another replica says what its proxy has."""
    reasons = {
        "": f"replica {other} has not reported on it yet",
        proxy.spiffe_id: "not connected, and holds a live certificate",
    }
    shown: dict[str, Any] = {"missing": []}

    def holds() -> bool:
        shown.update(server.query("ca", "show"))
        return {each["spiffe_id"]: each["why"] for each in shown["missing"]} == reasons

    wait_until(holds, within_seconds=10, what="nobody but the other's proxy is waited for")
    assert [root["stage"] for root in shown["roots"]] == ["retiring", "announced"]
    left = {phase["name"]: phase["remaining"] for phase in shown["phases"]}
    assert (left["propagate"], left["switch"]) == (2, 2)


def assert_moved(server: RunningServer, before: str, root: x509.Certificate) -> None:
    """Assert that a server shows, and tells its proxies, that both sign under the new root."""
    shown = server.query("ca", "show")
    stages = {each["root_sha256"]: each["stage"] for each in shown["roots"]}
    after = root.fingerprint(SHA256()).hex()
    assert stages == {before: "removed", after: "trusted"}
    active = [each for each in shown["authorities"] if each["stage"] == "active"]
    assert {each["replica"]: each["root_sha256"] for each in active} == {"a": after, "b": after}
    assert shown["signing"] in {each["authority_id"] for each in active}
    assert x509.load_pem_x509_certificates(server.meshca("bundle", "show").encode()) == [root]


def test_an_authority_that_is_tainted_at_one_replica_is_left_by_the_other(mesh: Mesh) -> None:
    a, b, orders = mesh.a, mesh.b, mesh.orders
    kept, stolen = signing(a), signing(b)
    held = orders.serials()
    with mesh.traffic() as traffic:
        a.meshca("ca", "taint", stolen, "--reason", "a test")
        wait_until(
            lambda: held.isdisjoint(orders.serials()),
            within_seconds=5,
            what="the proxy of the other replica has a certificate of its successor",
        )
        keep_going(traffic)
    assert_nothing_failed(traffic, mesh.frontend, orders)
    known = authorities(b)
    assert (known[stolen]["stage"], known[stolen]["replica"]) == ("tainted", "b")
    assert signing(a) == kept
    assert signing(b) not in ("", kept, stolen)
    assert stolen not in {leaf_authority(b, serial) for serial in orders.serials()}


def leaf_authority(server: RunningServer, serial: str) -> str:
    """Return the authority of a certificate that some replica has issued."""
    leaves = server.query("svid", "list", "--live", "--limit", "1000")["svids"]
    return str(next(leaf["authority_id"] for leaf in leaves if leaf["serial"] == serial))


def test_a_replica_that_is_killed_stops_nobody_and_comes_back_under_its_name(mesh: Mesh) -> None:
    a, b, frontend, orders = mesh.a, mesh.b, mesh.frontend, mesh.orders
    before = signing(b)
    with mesh.traffic() as traffic:
        renew(orders)  # what it has must do for a while
        held = orders.serials()
        b.stop(signal.SIGKILL)
        without = traffic.requests + 50  # few: what it has lives for 20 seconds
        wait_until(lambda: traffic.requests > without, within_seconds=10, what="more traffic")
        assert orders.serials() == held
        renew(frontend)

        b.start()
        wait_until(
            lambda: held.isdisjoint(orders.serials()),
            within_seconds=10,
            what="the proxy is back at the replica that was killed",
        )
        keep_going(traffic)
    assert_nothing_failed(traffic, frontend, orders)
    assert [p["spiffe_id"] for p in b.query("proxies")["proxies"]] == [orders.spiffe_id]
    assert signing(b) not in ("", before)
    assert authorities(a)[signing(b)]["replica"] == "b"


def test_a_second_process_under_the_name_of_one_that_runs_does_not_start(
    twin: "Future[subprocess.CompletedProcess[str]]",
) -> None:
    done = twin.result()
    assert done.returncode == 1
    assert "replica 'a' runs already on" in done.stderr
    assert platform.node() in done.stderr
    assert "MESHCA_REPLICA" in done.stderr
