"""Certificates change under traffic, and no request notices."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshca.demo.app import EchoApp
from meshca.demo.probes import call_without_certificate
from meshca.demo.traffic import Traffic
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow, spiffe_id
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end
REQUESTS_PER_CONNECTION = 10


@pytest.fixture
def short_lived(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose leaves live one minute."""
    with RunningServer(tmp_path, svid="1m") as running:
        yield running


def test_leaves_renew_on_schedule_under_traffic_without_a_failed_request(
    short_lived: RunningServer, app: EchoApp
) -> None:
    server = short_lived
    server.apply(allow("frontend", "orders"))
    orders = Proxy(server, "orders", app_port=app.port)
    frontend = Proxy(server, "frontend", calls=[orders])
    frontend.handshake_every(REQUESTS_PER_CONNECTION)
    with orders, frontend:
        orders.wait_ready()
        frontend.wait_ready()
        first = orders.serials() | frontend.serials()

        with Traffic(frontend.outbound["orders"]) as traffic:
            wait_until(
                lambda: first.isdisjoint(orders.serials() | frontend.serials()),
                within_seconds=50,
                what="both leaves are renewed, between half and 70 % of their minute",
            )
            (loaded,) = orders.serials()
            assert call_without_certificate(orders.inbound, server.roots).serial == loaded
            seen = traffic.requests
            wait_until(
                lambda: traffic.requests > seen + 500,
                within_seconds=20,
                what="traffic on the new certificates",
            )

        assert traffic.failures == []
        assert traffic.requests > 1000
        assert frontend.handshakes() > traffic.requests / REQUESTS_PER_CONNECTION / 2
        assert sum(orders.stats("sds.*update_rejected").values()) == 0


def test_renewal_by_hand_reaches_every_connected_proxy_of_the_identity(
    server: RunningServer, app: EchoApp
) -> None:
    with (
        Proxy(server, "orders", app_port=app.port) as orders,
        Proxy(server, "payments", app_port=app.port) as payments,
    ):
        orders.wait_ready()
        payments.wait_ready()
        first, other = orders.serials(), payments.serials()

        server.meshca("svid", "renew", spiffe_id("orders"))

        wait_until(
            lambda: first.isdisjoint(orders.serials()), within_seconds=10, what="a new serial"
        )
        assert payments.serials() == other


def test_renewing_an_identity_that_nobody_holds_fails(server: RunningServer) -> None:
    assert server.run("svid", "renew", spiffe_id("nobody")).returncode == 1
