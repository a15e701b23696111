"""A mesh served on a thread of its own, real Envoys that follow it, and plain TLS peers.

The mesh is that of `conftest.py` on the real clock's date, with a PKI whose keys the test holds:
it certifies peers and signs revocation lists as it likes.
"""

import asyncio
import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authz.jwt_filter import Keys
from ca.revocation.view import RevocationView
from identity.caller import Caller, Evidence
from meshca.clock import SystemClock
from meshca.demo.ports import free_port
from meshca.spiffe_id import SpiffeId
from sds.bootstrap import render_files
from sds.bootstrap_options import BootstrapOptions, parse_options
from sds.grpc_server import OPTIONS, handlers
from sds.server_identity import ServerIdentity
from tests.builders import Pki, make_pki
from tests.envoy import RunningEnvoy
from tests.fakes import FakeClock
from tests.sds.conftest import build_mesh, make_policies, running
from tests.sds.lists import fingerprint, make_crl

ALLOW_ALL = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: all, namespace: shop}
spec: {rules: [{}]}
"""
_NUMBERS = iter(range(10_000, 20_000))


@dataclass(frozen=True)
class Peer:
    """A workload without Envoy: its certificate, and TLS as client or server with it."""

    certificate: x509.Certificate
    file: Path
    roots: Path

    def context(self, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> ssl.SSLContext:
        """Return TLS that shows the certificate; the other side's is its own business."""
        context = ssl.create_default_context(purpose, cafile=str(self.roots))
        context.check_hostname = False
        context.load_cert_chain(self.file)
        if purpose is ssl.Purpose.CLIENT_AUTH:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    @contextlib.contextmanager
    def connected(self, port: int) -> Iterator[Callable[[], int]]:
        """Give what sends a request over one kept connection to 127.0.0.1:`port`.

        It returns the status; 0 when TLS or the peer ended the connection.
        """
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=10, context=self.context()
        )
        connection.auto_open = 0  # one that was ended stays so

        def call() -> int:
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException):
                return 0
            return response.status

        with contextlib.closing(connection):
            with contextlib.suppress(OSError):
                connection.connect()
            yield call

    def call(self, port: int) -> int:
        """Send a request over a connection of its own; return the status, 0 without one."""
        with self.connected(port) as call:
            return call()

    @contextlib.contextmanager
    def tcp(self, port: int) -> Iterator[Callable[[], bool]]:
        """Give what sends a byte to 127.0.0.1:`port` and returns whether it came back."""
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            self.context().wrap_socket(raw) as secure,
        ):

            def exchange() -> bool:
                try:
                    secure.sendall(b"x")
                    return secure.recv(1) == b"x"
                except OSError:
                    return False

            yield exchange


class ServedMesh:
    """The mesh behind its gRPC door; `revoke` and `enforce` change what proxies are told.

    `handlers`, if any are added before it is entered, answer calls before the mesh does.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = SystemClock().now()
        self.mesh = build_mesh(directory, FakeClock(at=self.now))
        self.handlers: list[grpc.GenericRpcHandler] = []
        self.pki = make_pki(now=self.now - timedelta(minutes=30), number=next(_NUMBERS))
        self.mesh.authorities.activate(self.pki.authority(), (self.pki.root,))
        self.mesh.policies = make_policies(ALLOW_ALL)
        self.roots = directory / "roots.pem"
        self.roots.write_bytes(self.pki.root.public_bytes(Encoding.PEM))
        self.port = free_port()
        self._up = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.mesh.view = RevocationView(lists=(make_crl(self.pki, now=self.now),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def show(self, view: RevocationView) -> None:
        """Let every proxy see `view`."""

        def change() -> None:
            self.mesh.view = view
            self.mesh.ledger.wake_all()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(change)

    def enforce(self, text: str, *, keys: Keys | None = None) -> None:
        """Put the policies of a YAML text in force, with `keys` for the issuers of tokens."""

        def change() -> None:
            self.mesh.policies = make_policies(text)
            if keys is not None:
                self.mesh.doors.shared.filters.keys = lambda: keys
            self.mesh.ledger.wake_all()

        assert self._loop is not None
        self._loop.call_soon_threadsafe(change)

    def revoke(self, *peers: x509.Certificate, **more: Any) -> None:
        """Revoke certificates of the PKI's intermediate, and nothing else."""
        crl = make_crl(self.pki, [peer.serial_number for peer in peers], now=self.now, number=2)
        revoked = {"spiffe://example.org/": frozenset(fingerprint(peer) for peer in peers)}
        view = RevocationView(revision=2, lists=(crl,), revoked=revoked)
        self.show(replace(view, **more))

    def peer(self, account: str, *uris: str, pki: Pki | None = None) -> Peer:
        """Return a workload `account` of namespace shop; `uris` are other names instead."""
        signed_by = pki or self.pki
        names = uris or (f"spiffe://example.org/ns/shop/sa/{account}",)
        key = ec.generate_private_key(ec.SECP256R1())
        sans = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(n) for n in names])
        usage = x509.KeyUsage(True, *[False] * 8)
        above = signed_by.intermediate
        signer = signed_by.intermediate_key
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        certificate = (
            x509.CertificateBuilder(above.subject, x509.Name([]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(minutes=5))
            .not_valid_after(self.now + timedelta(hours=1))
            .add_extension(sans, critical=True)
            .add_extension(x509.BasicConstraints(False, None), critical=True)
            .add_extension(usage, critical=True)
            .sign(signer, hashes.SHA256())
        )
        file = self.directory / f"{account}-{next(_NUMBERS)}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = certificate.public_bytes(Encoding.PEM) + above.public_bytes(Encoding.PEM)
        file.write_bytes(chain + private)
        return Peer(certificate, file, self.roots)

    def envoy(self, account: str, **options: Any) -> RunningEnvoy:
        """Return an Envoy of namespace shop, with options of `meshca envoy bootstrap`."""
        directory = self.directory / f"{account}-{next(_NUMBERS)}"
        directory.mkdir()
        (directory / "token").write_text(f"shop/{account}/{account}-1\n")
        admin = free_port()
        given = BootstrapOptions(
            server=f"localhost:{self.port}",
            token_file=Path("token"),
            trust_bundle=self.roots,
            trust_domain="example.org",
            admin=str(admin),
            **options,
        )
        bootstrap = parse_options(given, directory=directory)
        for name, text in render_files(bootstrap).items():
            (directory / name).write_text(text)
        return RunningEnvoy(bootstrap.path, admin_port=admin)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with running(self.mesh):
            ready = asyncio.Event()
            name = SpiffeId("example.org", "/meshca/server")
            caller = Caller(name, Evidence("self"), self.now.replace(year=9999))
            holding, release = self.mesh.leaves.hold(caller, ready.set, dns_names=("localhost",))
            await asyncio.wait_for(ready.wait(), 10)
            assert holding.credential is not None
            identity = ServerIdentity(self.mesh.authorities.bundle.pem)
            chain = b"".join(holding.credential.svid.chain_pem)
            identity.replace(holding.credential.private_key_pem, chain)
            server = grpc.aio.server(options=OPTIONS)
            server.add_generic_rpc_handlers(
                (*self.handlers, *handlers(self.mesh.doors, mutual_tls=False))
            )
            credentials = identity.credentials(require_client_certificate=False)
            server.add_secure_port(f"localhost:{self.port}", credentials)
            await server.start()
            self._up.set()
            await self._stop.wait()
            self.mesh.ledger.end_all()
            await server.stop(1)
            release()


@contextlib.contextmanager
def echo_server() -> Iterator[int]:
    """Serve TCP that sends back what it gets; give the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(1024):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
