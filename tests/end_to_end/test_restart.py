"""The server goes and comes back; the proxies lose nothing and find it again."""

import signal

import pytest

from meshca.demo.app import EchoApp
from meshca.demo.traffic import Traffic
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_loses_no_handshake(
    server: RunningServer, app: EchoApp, number: signal.Signals
) -> None:
    server.apply(allow("frontend", "orders"))
    orders = Proxy(server, "orders", app_port=app.port)
    frontend = Proxy(server, "frontend", calls=[orders])
    frontend.handshake_every(5)
    with orders, frontend:
        orders.wait_ready()
        frontend.wait_ready()

        with Traffic(frontend.outbound["orders"]) as traffic:
            status = server.stop(number)
            down = traffic.requests
            wait_until(
                lambda: traffic.requests > down + 300,
                within_seconds=20,
                what="traffic while there is no server",
            )
            server.start()
            wait_until(
                lambda: len(server.query("proxies")["proxies"]) == 2,
                within_seconds=20,
                what="both proxies are back",
            )
            back = traffic.requests
            wait_until(
                lambda: traffic.requests > back + 300, within_seconds=20, what="traffic after"
            )

        assert status == (0 if number is signal.SIGTERM else -9)
        assert traffic.failures == []
        server.wait_in_step()
        assert server.query("audit", "verify")["intact"] is True
        gaps = {gap["reason"] for gap in server.query("audit", "query", "--kind", "gap")["entries"]}
        assert ("stop_not_recorded" in gaps) is (number is signal.SIGKILL)


def test_policies_and_records_survive_a_restart(server: RunningServer, app: EchoApp) -> None:
    server.apply(allow("frontend", "orders"))
    with Proxy(server, "orders", app_port=app.port) as orders:
        orders.wait_ready()
        (before,) = orders.serials()
    server.stop()
    server.start()

    assert server.query("svid", "show", before)["serial"] == before
    orders = Proxy(server, "orders", app_port=app.port)
    with orders, Proxy(server, "frontend", calls=[orders]) as frontend:
        orders.wait_ready()
        frontend.wait_ready()
        assert frontend.call(frontend.outbound["orders"]).status_code == 200


def test_a_proxy_that_starts_first_waits_for_the_server(
    server: RunningServer, app: EchoApp
) -> None:
    orders = Proxy(server, "orders", app_port=app.port)
    server.stop()
    with orders:
        wait_until(
            lambda: (
                orders.stats("cluster.meshca.upstream_cx_connect_fail").get(
                    "cluster.meshca.upstream_cx_connect_fail", 0
                )
                > 0
            ),
            within_seconds=10,
            what="a first attempt",
        )
        assert not orders.is_ready()

        server.start()

        orders.wait_ready()


def test_a_second_server_on_the_same_port_does_not_start(server: RunningServer) -> None:
    other = RunningServer(server.directory / "other")
    (server.directory / "other").mkdir()
    other.meshca("init", str(other.config.parent), "--trust-domain", "example.org")
    done = other.run("serve", environment={"MESHCA_LISTEN_MESH": f"127.0.0.1:{server.port}"})

    assert done.returncode == 1
    assert str(server.port) in done.stderr
    assert server.is_ready()
