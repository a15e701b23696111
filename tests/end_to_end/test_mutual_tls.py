"""Two real proxies with identities from a real server: who gets through, and who does not."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from meshca.demo.app import EchoApp
from meshca.demo.probes import call_without_certificate
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow, spiffe_id
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end


def test_a_call_arrives_with_the_identity_of_its_caller(
    server: RunningServer, app: EchoApp
) -> None:
    server.apply(allow("frontend", "orders"))
    with (
        Proxy(server, "orders", app_port=app.port) as orders,
        Proxy(server, "frontend", calls=[orders]) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()

        answer = frontend.call(frontend.outbound["orders"], "/items")

        assert answer.status_code == 200
        caller = answer.json()["headers"]["x-forwarded-client-cert"].split(";")
        assert f"URI={spiffe_id('frontend')}" in caller
        assert orders.identities() == {spiffe_id("orders")}
        assert orders.serials() == serials_on_record(server, "orders")


def serials_on_record(server: RunningServer, name: str) -> set[str]:
    svids = server.query("svid", "list", "--identity", spiffe_id(name), "--live")["svids"]
    return {svid["serial"] for svid in svids}


class Shout(grpc.GenericRpcHandler):
    """A gRPC app of one method, which answers in capitals."""

    def service(self, handler_call_details: Any) -> Any:
        """Answer every method alike."""

        def shout(request: bytes, context: Any) -> bytes:
            return request.upper()

        return grpc.unary_unary_rpc_method_handler(shout)


def shout_at(channel: grpc.Channel, method: str) -> bytes:
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return call(b"hello", timeout=10)


def test_grpc_passes_through_both_proxies(server: RunningServer) -> None:
    server.apply(allow("frontend", "orders", paths=["/shop.Orders/*"]))
    with ThreadPoolExecutor(1) as pool:
        app = grpc.server(pool, [Shout()])
        orders = Proxy(server, "orders", app_port=app.add_insecure_port("127.0.0.1:0"))
        app.start()
        with orders, Proxy(server, "frontend", calls=[orders]) as frontend:
            orders.wait_ready()
            frontend.wait_ready()
            with grpc.insecure_channel(f"127.0.0.1:{frontend.outbound['orders']}") as channel:
                answer = shout_at(channel, "/shop.Orders/List")
                with pytest.raises(grpc.RpcError) as refused:
                    shout_at(channel, "/shop.Admin/Drop")
        app.stop(0).wait(5)

    assert answer == b"HELLO"
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_header_does_not_make_a_caller(server: RunningServer, app: EchoApp) -> None:
    server.apply(allow("admin", "orders"))
    forged = {"x-forwarded-client-cert": f"URI={spiffe_id('admin')}"}
    with (
        Proxy(server, "orders", app_port=app.port) as orders,
        Proxy(server, "frontend", calls=[orders]) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()

        answer = frontend.call(frontend.outbound["orders"], headers=forged)

        assert answer.status_code == 403


def test_without_a_certificate_there_is_no_connection(server: RunningServer, app: EchoApp) -> None:
    with Proxy(server, "orders", app_port=app.port) as orders:
        orders.wait_ready()

        shown = call_without_certificate(orders.inbound, server.roots)

        assert shown.verdict == "tlsv13_alert_certificate_required"
        wait_until(
            lambda: "peer_did_not_provide_required_client_certificate" in orders.log_text(),
            within_seconds=5,
            what="the reason is in the proxy's access log",
        )


def test_tls_1_2_is_refused(server: RunningServer, app: EchoApp) -> None:
    with Proxy(server, "orders", app_port=app.port) as orders:
        orders.wait_ready()
        old = ssl.create_default_context(cafile=str(server.roots))
        old.check_hostname = False
        old.maximum_version = ssl.TLSVersion.TLSv1_2

        with (
            socket.create_connection(("127.0.0.1", orders.inbound), 5) as plain,
            pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"),
        ):
            old.wrap_socket(plain)


def test_a_server_with_another_identity_is_not_called(server: RunningServer, app: EchoApp) -> None:
    """What listens where orders should be is payments: genuine, of the mesh, but not orders."""
    server.apply(allow("frontend", "payments"), allow("frontend", "orders"))
    with ExitStack() as stack:
        orders = Proxy(server, "orders", app_port=app.port)
        payments = Proxy(server, "payments", app_port=app.port)
        payments.inbound = orders.inbound
        payments.write_bootstrap(app.port, (), ())
        stack.enter_context(payments).wait_ready()
        frontend = stack.enter_context(Proxy(server, "frontend", calls=[orders]))
        frontend.wait_ready()

        answer = frontend.call(frontend.outbound["orders"])

        assert answer.status_code == 503
        assert sum(frontend.stats("cluster.outbound-.*fail_verify_san").values()) > 0
