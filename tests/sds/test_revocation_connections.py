"""What a revocation cuts beside HTTP requests, and what bounds the rest: TCP, servers, streams."""

import base64
import contextlib
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509

from meshca.demo.ports import free_port
from tests.envoy import RunningEnvoy
from tests.real_parts import wait_until
from tests.sds.lists import make_upper
from tests.sds.served import Peer, ServedMesh, echo_server

pytestmark = pytest.mark.end_to_end
SOON = 10


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedMesh]:
    """A served mesh in which everybody may call everybody."""
    with ServedMesh(tmp_path) as mesh:
        yield mesh


def passes(peer: Peer, port: int) -> bool:
    """Return whether a new TCP connection carries bytes."""
    try:
        with peer.tcp(port) as exchange:
            return exchange()
    except OSError:
        return False


def test_a_revoked_tcp_caller_is_refused_and_an_open_connection_ends_in_time(
    served: ServedMesh,
) -> None:
    port = free_port()
    thief, other = served.peer("web"), served.peer("web")
    with echo_server() as app:
        envoy = served.envoy(
            "db", inbound_tcp=[f"127.0.0.1:{port}=127.0.0.1:{app}"], connection_lifetime="4s"
        )
        with envoy:
            wait_until(lambda: passes(thief, port), within_seconds=SOON, what="a way through")
            with thief.tcp(port) as exchange:
                assert exchange()
                served.revoke(thief.certificate)
                wait_until(lambda: not passes(thief, port), within_seconds=3, what="a refusal")

                assert exchange()
                assert passes(other, port)
                wait_until(lambda: not exchange(), within_seconds=SOON, what="its end")


def test_the_network_filter_refuses_where_the_handshake_does_not(served: ServedMesh) -> None:
    port = free_port()
    thief, other = served.peer("web"), served.peer("web")
    listen = [f"127.0.0.1:{port}=127.0.0.1:"]
    with (
        echo_server() as app,
        served.envoy("db", inbound_tcp=[listen[0] + str(app)], validator="spiffe") as envoy,
    ):
        wait_until(lambda: passes(thief, port), within_seconds=SOON, what="a way through")

        served.revoke(thief.certificate, upper=None)  # so that there are no lists
        wait_until(lambda: not passes(thief, port), within_seconds=SOON, what="a refusal")

        assert passes(other, port)
        wait_until(
            lambda: "rbac_access_denied_matched_policy[revoked]" in envoy.log_text(),
            within_seconds=SOON,
            what="the log says why",
        )
        assert sum(envoy.stats(r"^listener\..*ssl\.fail_verify_error$").values()) == 0


@pytest.mark.parametrize("validator", ["default", "spiffe"])
def test_a_revoked_server_is_not_called_again_once_its_open_connection_ends(
    served: ServedMesh, validator: str
) -> None:
    inbound, out = free_port(), free_port()
    orders = served.peer("orders")
    identity = "spiffe://example.org/ns/shop/sa/orders"
    with (
        serving(tls_app(orders, inbound)),
        served.envoy(
            "web",
            outbound=[f"{out}=127.0.0.1:{inbound}={identity}"],
            connection_lifetime="5s",
            validator=validator,
        ) as envoy,
    ):
        wait_until(lambda: answers(envoy, out) == 200, within_seconds=SOON, what="an answer")
        served.revoke(orders.certificate, upper=make_upper(served.pki, now=served.now))
        wait_until(lambda: answers(envoy, out) == 503, within_seconds=SOON, what="a refusal")

        assert sum(envoy.stats(r"^cluster\.outbound-.*ssl\.fail_verify_error$").values()) >= 1


def test_a_request_in_flight_ends_in_time(served: ServedMesh) -> None:
    port = free_port()
    thief = served.peer("web")
    app = _App(("127.0.0.1", 0), _Answer)
    with (
        serving(app),
        served.envoy(
            "orders",
            inbound=f"127.0.0.1:{port}",
            app=f"127.0.0.1:{app.server_address[1]}",
            connection_lifetime="2s",
        ),
    ):
        wait_until(lambda: thief.call(port) == 200, within_seconds=SOON, what="an answer")
        app.answers.clear()
        outcome: list[int] = []
        asking = threading.Thread(target=lambda: outcome.append(thief.call(port)))
        asking.start()
        assert app.is_asked.wait(SOON)

        served.revoke(thief.certificate)
        asking.join(SOON)
        app.answers.set()

    assert outcome == [504]


def test_on_http_2_the_next_call_is_refused_and_an_open_stream_ends_in_time(
    served: ServedMesh,
) -> None:
    inbound, out = free_port(), free_port()
    orders = "spiffe://example.org/ns/shop/sa/orders"
    with (
        grpc_app() as app,
        served.envoy(
            "orders",
            inbound=f"127.0.0.1:{inbound}",
            app=f"127.0.0.1:{app}",
            connection_lifetime="3s",
        ) as server,
        served.envoy("web", outbound=[f"{out}=127.0.0.1:{inbound}={orders}"]) as client,
        grpc.insecure_channel(f"127.0.0.1:{out}") as channel,
    ):
        server.wait_ready()
        client.wait_ready()
        call: Any = channel.unary_unary("/a.B/Echo")
        wait_until(lambda: outcome(call) is None, within_seconds=SOON, what="a first call")
        open_stream: Any = channel.stream_stream("/a.B/Stream")
        stream = open_stream(iter(ticks, b""))
        assert next(stream) == b"tick"

        served.revoke(svid_of(client))
        wait_until(
            lambda: outcome(call) is grpc.StatusCode.PERMISSION_DENIED,
            within_seconds=2,
            what="the next call is refused",
        )
        assert next(stream) == b"tick"

        with pytest.raises(grpc.RpcError):
            list(islice(stream, 1000))


def ticks() -> bytes:
    """Return a message, after a moment."""
    threading.Event().wait(0.05)
    return b"tick"


def outcome(call: Any) -> grpc.StatusCode | None:
    """Return how a call fails; None when it does not."""
    try:
        call(b"x", timeout=5)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return None


def svid_of(envoy: RunningEnvoy) -> x509.Certificate:
    """Return the certificate that an Envoy shows."""
    secrets = [each["secret"] for each in envoy.config_dump()]
    (own,) = [secret["tls_certificate"] for secret in secrets if "tls_certificate" in secret]
    chain = base64.b64decode(own["certificate_chain"]["inline_bytes"])
    return x509.load_pem_x509_certificates(chain)[0]


class _Echo(grpc.GenericRpcHandler):
    """Sends back what it gets."""

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method.endswith("/Stream"):
            return grpc.stream_stream_rpc_method_handler(lambda requests, _: requests)
        return grpc.unary_unary_rpc_method_handler(lambda request, _: request)


@contextlib.contextmanager
def grpc_app() -> Iterator[int]:
    """Serve gRPC without TLS; give the port."""
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool, [_Echo()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(0).wait(5)


class _App(ThreadingHTTPServer):
    """An app that answers while `answers` is set, and otherwise keeps whoever asks waiting."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answers, self.is_asked = threading.Event(), threading.Event()
        self.answers.set()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        assert isinstance(self.server, _App)
        if not self.server.answers.is_set():
            self.server.is_asked.set()
            self.server.answers.wait(60)
        self.send_response(200)
        self.send_header("content-length", "0")
        with contextlib.suppress(OSError):
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextlib.contextmanager
def serving(app: _App) -> Iterator[None]:
    """Run `app`."""
    thread = threading.Thread(target=app.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        app.shutdown()
        app.server_close()
        thread.join(5)


def tls_app(peer: Peer, port: int) -> _App:
    """Return an app that shows the certificate of `peer`."""
    app = _App(("127.0.0.1", port), _Answer)
    app.socket = peer.context(ssl.Purpose.CLIENT_AUTH).wrap_socket(app.socket, server_side=True)
    return app


def answers(envoy: RunningEnvoy, port: int) -> int:
    """Return the status of a call through an outbound port; 0 when it takes none yet."""
    with contextlib.suppress(httpx.TransportError):
        return envoy.call(port).status_code
    return 0
