"""A root is replaced, an intermediate taken over or tainted, under traffic: no request notices."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.upstream.self_signed import add_root
from meshca.clock import SystemClock
from meshca.demo.app import EchoApp
from meshca.demo.probes import call_without_certificate
from meshca.demo.traffic import Traffic
from tests.end_to_end.authorities import (
    assert_leaves_have_live_chains,
    assert_nothing_failed,
    assert_phases_came_in_order,
    authorities,
    follow,
    two_proxies,
)
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer
from tests.real_parts import envoy, wait_until

pytestmark = pytest.mark.end_to_end


def test_a_root_is_replaced_under_traffic_without_a_failed_request(
    tmp_path: Path, app: EchoApp
) -> None:
    envoy()
    with RunningServer(tmp_path, svid="10s") as server, two_proxies(server, app) as proxies:
        orders, _ = proxies
        (before,) = server.query("ca", "show")["roots"]
        with Traffic(proxies[1].outbound["orders"]) as traffic:
            new = add_root(
                server.config.parent, trust_domain="example.org", now=SystemClock().now()
            )
            server.meshca("ca", "rotate-root", "--reason", "a test")
            seen = follow(server, within_seconds=45)
            after = traffic.requests
            wait_until(
                lambda: traffic.requests > after + 200, within_seconds=10, what="traffic after"
            )
        assert_nothing_failed(traffic, *proxies)

        stages = {root["root_sha256"]: root["stage"] for root in seen[-1]["roots"]}
        assert sorted(stages.values()) == ["removed", "trusted"]
        assert stages[before["root_sha256"]] == "removed"
        assert x509.load_pem_x509_certificates(server.meshca("bundle", "show").encode()) == [new]
        assert_phases_came_in_order([each["phases"] for each in seen[:-1]])
        only_new = tmp_path / "new-root.pem"
        only_new.write_bytes(new.public_bytes(Encoding.PEM))
        assert call_without_certificate(orders.inbound, only_new).serial in orders.serials()
        server.wait_in_step()
        assert_proxies_come_back(server, *proxies)


def assert_proxies_come_back(server: RunningServer, orders: Proxy, frontend: Proxy) -> None:
    """Assert that proxies accept a server of which they have only ever seen the old root."""
    server.stop()
    server.start()
    wait_until(
        lambda: len(server.query("proxies")["proxies"]) == 2,
        within_seconds=20,
        what="both proxies are back",
    )
    wait_until(
        lambda: frontend.call(frontend.outbound[orders.name]).status_code == 200,
        within_seconds=10,
        what="a call on certificates of the restarted server",
    )


def test_an_intermediate_is_taken_over_under_traffic_without_a_failed_request(
    tmp_path: Path, app: EchoApp
) -> None:
    envoy()
    lived = RunningServer(tmp_path, svid="10s", intermediate="1m")
    with lived as server, two_proxies(server, app) as proxies:
        first = server.query("ca", "show")["signing"]
        with Traffic(proxies[1].outbound["orders"]) as traffic:
            wait_until(
                lambda: first not in assert_leaves_have_live_chains(server),
                within_seconds=80,
                what="every live leaf is under the successor",
            )
            after = traffic.requests
            wait_until(
                lambda: traffic.requests > after + 200, within_seconds=10, what="traffic after"
            )
        assert_nothing_failed(traffic, *proxies)
        assert authorities(server)[first]["stage"] in ("retiring", "retired")


def test_a_tainted_authority_is_left_under_traffic_without_a_failed_request(
    tmp_path: Path, app: EchoApp
) -> None:
    envoy()
    with RunningServer(tmp_path, svid="10s") as server, two_proxies(server, app) as proxies:
        held = proxies[0].serials() | proxies[1].serials()
        stolen = server.query("ca", "show")["signing"]
        with Traffic(proxies[1].outbound["orders"]) as traffic:
            server.meshca("ca", "taint", stolen, "--reason", "a test")
            wait_until(
                lambda: held.isdisjoint(proxies[0].serials() | proxies[1].serials()),
                within_seconds=10,
                what="both proxies have certificates of the successor",
            )
            assert authorities(server)[stolen]["stage"] == "tainted"
            wait_until(
                lambda: authorities(server)[stolen]["stage"] == "revoked",
                within_seconds=40,
                what="the last certificate under it has ended",
            )
        assert_nothing_failed(traffic, *proxies)
        assert server.query("svid", "list", "--live", "--authority", stolen)["svids"] == []
        assert server.query("ca", "show")["signing"] not in ("", stolen)
