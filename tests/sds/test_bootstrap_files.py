"""What Envoy makes of the files our bootstrap names, when they are replaced while it runs."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshca.clock import SystemClock
from meshca.demo.ports import free_port
from meshca.demo.steps_identity import replace
from sds.bootstrap import render_files
from sds.bootstrap_options import BootstrapOptions, parse_options
from tests.envoy import RunningEnvoy
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end
TrustedRoot = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def certificate(issuer: TrustedRoot | None, name: str) -> TrustedRoot:
    """Return a root, or a server certificate for `name` signed by `issuer`."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = SystemClock().now()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = issuer or (None, key)
    builder = (
        x509.CertificateBuilder(signer[0].subject if signer[0] else subject, subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return builder.sign(signer[1], hashes.SHA256()), key


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


class Listener(grpc.GenericRpcHandler):
    """An xDS server that gives nothing: it notes the token of each stream and ends it."""

    def __init__(self) -> None:
        self.tokens: list[str] = []

    def service(self, handler_call_details: Any) -> Any:
        """Answer every call alike."""

        def end(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            metadata = dict(context.invocation_metadata())
            self.tokens.append(metadata.get("authorization", ""))
            context.abort(grpc.StatusCode.UNAVAILABLE, "come back")
            yield b""

        return grpc.stream_stream_rpc_method_handler(end)


@contextmanager
def serve(listener: Listener, port: int, root: TrustedRoot) -> Iterator[None]:
    """Serve `listener` with a certificate for localhost under `root`."""
    leaf, key = certificate(root, "localhost")
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, [listener], options=[("grpc.so_reuseport", 0)])
        credentials = grpc.ssl_server_credentials([(private, pem(leaf))])
        server.add_secure_port(f"127.0.0.1:{port}", credentials)
        server.start()
        try:
            yield
        finally:
            server.stop(0).wait(5)


@pytest.fixture
def proxy(tmp_path: Path) -> Callable[[int, TrustedRoot], RunningEnvoy]:
    """Return the maker of an Envoy whose token is `first` and whose CA is at a port."""

    def make(port: int, root: TrustedRoot) -> RunningEnvoy:
        (tmp_path / "token").write_text("first\n")
        (tmp_path / "roots.pem").write_bytes(pem(root[0]))
        admin = free_port()
        options = BootstrapOptions(
            server=f"localhost:{port}",
            token_file=Path("token"),
            trust_bundle=Path("roots.pem"),
            trust_domain="example.org",
            inbound=f"127.0.0.1:{free_port()}",
            app="127.0.0.1:1",
            admin=str(admin),
        )
        bootstrap = parse_options(options, directory=tmp_path)
        for name, text in render_files(bootstrap).items():
            (tmp_path / name).write_text(text)
        return RunningEnvoy(bootstrap.path, admin_port=admin)

    return make


def test_a_replaced_token_is_sent_with_the_next_stream(
    proxy: Callable[[int, TrustedRoot], RunningEnvoy], tmp_path: Path
) -> None:
    root, listener, port = certificate(None, "root"), Listener(), free_port()

    with serve(listener, port, root), proxy(port, root):
        wait_until(lambda: listener.tokens != [], within_seconds=20, what="a first stream")
        replace(tmp_path / "token", "second\n")
        wait_until(
            lambda: listener.tokens[-1] == "Bearer second",
            within_seconds=20,
            what="a stream with the second token",
        )

    assert set(listener.tokens) == {"Bearer first", "Bearer second"}


def test_a_new_root_of_the_server_needs_no_restart_of_envoy(
    proxy: Callable[[int, TrustedRoot], RunningEnvoy], tmp_path: Path
) -> None:
    old, new = certificate(None, "old"), certificate(None, "new")
    before, after, port = Listener(), Listener(), free_port()

    with proxy(port, old) as envoy:
        with serve(before, port, old):
            wait_until(lambda: before.tokens != [], within_seconds=20, what="a first stream")
        refusals = "cluster.meshca.ssl.fail_verify_error"
        with serve(after, port, new):
            wait_until(
                lambda: envoy.stats(refusals).get(refusals, 0) > 0,
                within_seconds=20,
                what="the server of an unknown root is refused",
            )
            assert after.tokens == []
            replace(tmp_path / "roots.pem", (pem(old[0]) + pem(new[0])).decode())
            wait_until(lambda: after.tokens != [], within_seconds=20, what="a stream again")


def test_a_server_of_another_name_is_never_sent_the_token(
    proxy: Callable[[int, TrustedRoot], RunningEnvoy], tmp_path: Path
) -> None:
    root, listener, port = certificate(None, "root"), Listener(), free_port()
    envoy = proxy(port, root)
    text = envoy.path.read_text()
    assert text.count('"exact": "localhost"') == 1
    envoy.path.write_text(text.replace('"exact": "localhost"', '"exact": "ca.example.org"'))

    with serve(listener, port, root), envoy:
        refusals = "cluster.meshca.ssl.fail_verify_san"
        wait_until(
            lambda: envoy.stats(refusals).get(refusals, 0) > 1,
            within_seconds=20,
            what="the server's name is refused, twice",
        )

    assert listener.tokens == []
