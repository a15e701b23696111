"""Policy reaches real proxies within a second, and holds there."""

import socket
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshca.demo.app import EchoApp
from meshca.demo.ports import free_port
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end


def test_a_policy_flips_on_an_open_connection_within_a_second(
    server: RunningServer, app: EchoApp
) -> None:
    with (
        Proxy(server, "orders", app_port=app.port) as orders,
        Proxy(server, "frontend", calls=[orders]) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()
        port = frontend.outbound["orders"]
        assert frontend.call(port).status_code == 403

        elsewhere = allow("frontend", "elsewhere")
        server.apply(allow("frontend", "orders"), elsewhere)
        wait_until(lambda: frontend.call(port).status_code == 200, within_seconds=1, what="allowed")
        server.apply(elsewhere)
        wait_until(
            lambda: frontend.call(port).status_code == 403, within_seconds=1, what="refused again"
        )

        assert frontend.handshakes() == 1


CALLS = {
    "as the policy says": ("GET", "/items/7", 200),
    "another method": ("POST", "/items/7", 403),
    "another path": ("GET", "/admin", 403),
    "a path that climbs": ("GET", "/items/../admin", 403),
    "a path that climbs, escaped": ("GET", "/items/%2e%2e/admin", 403),
}


def test_methods_and_paths_are_held_to(server: RunningServer, app: EchoApp) -> None:
    server.apply(allow("frontend", "orders", methods=["GET"], paths=["/items/*"]))
    with (
        Proxy(server, "orders", app_port=app.port) as orders,
        Proxy(server, "frontend", calls=[orders]) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()
        port = frontend.outbound["orders"]

        statuses = {
            case: raw_status(port, method, path) for case, (method, path, _) in CALLS.items()
        }

        assert statuses == {case: status for case, (_, _, status) in CALLS.items()}


def raw_status(port: int, method: str, path: str) -> int:
    """Send one request without a client library that would tidy up its path."""
    request = (
        f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request.encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_policy_stays_in_force_while_the_server_is_away(
    server: RunningServer, app: EchoApp
) -> None:
    server.apply(allow("frontend", "orders", methods=["GET"]))
    with (
        Proxy(server, "orders", app_port=app.port) as orders,
        Proxy(server, "frontend", calls=[orders]) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()

        server.stop()

        port = frontend.outbound["orders"]
        assert frontend.call(port).status_code == 200
        assert frontend.call(port, method="POST").status_code == 403


def test_a_policy_that_does_not_load_changes_nothing(
    server: RunningServer, app: EchoApp, tmp_path: Path
) -> None:
    server.apply(allow("frontend", "orders"))
    broken = allow("frontend", "orders")
    broken["spec"]["rules"][0]["form"] = broken["spec"]["rules"][0].pop("from")
    path = tmp_path / "broken.yaml"
    path.write_text(httpx.Request("POST", "http://x", json=broken).content.decode())
    with (
        Proxy(server, "orders", app_port=app.port) as orders,
        Proxy(server, "frontend", calls=[orders]) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()

        done = server.run("authz", "apply", str(path), "--reason", "test")

        assert done.returncode == 1
        assert "form" in done.stderr
        assert frontend.call(frontend.outbound["orders"]).status_code == 200


def test_raw_tcp_is_held_to_policy_at_connection_time(
    server: RunningServer, app: EchoApp, tmp_path: Path
) -> None:
    """A client with an SVID of its own talks TLS to a TCP port: refused, allowed."""
    port = free_port()
    options = ("--inbound-tcp", f"127.0.0.1:{port}=127.0.0.1:{app.port}")
    client = own_certificate(server, tmp_path)
    with Proxy(server, "orders", options=options) as orders:
        orders.wait_ready()

        assert exchange(port, client) == b""
        server.apply(allow("frontend", "orders"))
        wait_until(
            lambda: exchange(port, client).startswith(b"HTTP/1.1 200"),
            within_seconds=1,
            what="the connection is allowed",
        )


def own_certificate(server: RunningServer, directory: Path) -> ssl.SSLContext:
    """Return the TLS context of a workload that fetched its SVID for a key of its own."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder(x509.Name([])).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    (directory / "f.csr").write_bytes(request.public_bytes(pem))
    (directory / "f.token").write_text(server.token("frontend"))
    chain = server.meshca("svid", "issue", "--csr", "f.csr", "--token-file", "f.token")
    (directory / "f.pem").write_text(chain)
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "f.key").write_bytes(private)
    context = ssl.create_default_context(cafile=str(server.roots))
    context.check_hostname = False
    context.load_cert_chain(directory / "f.pem", directory / "f.key")
    return context


def exchange(port: int, context: ssl.SSLContext) -> bytes:
    """Send an HTTP request over one TLS connection; return the beginning of the answer."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain) as connection,
    ):
        try:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            return connection.recv(100)
        except (ConnectionError, ssl.SSLError):
            return b""
