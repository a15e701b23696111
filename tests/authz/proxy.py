"""One real Envoy that enforces many compiled policy sets at once, and clients with real identities.

Each case is a virtual host with its own HTTP RBAC (by `Host`) and a filter chain with its own
network RBAC (by SNI), on two ports of mutual TLS; HTTP also on a plaintext port. Local replies
carry what decided as their body.
"""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from google.protobuf import json_format

from authz.compile import http_rbac, network_rbac
from authz.engine import WorkloadPolicies
from tests.real_parts import envoy, free_port, wait_until

_TYPE = "type.googleapis.com/"
_HTTP = f"{_TYPE}envoy.extensions.filters.http"
_NETWORK = f"{_TYPE}envoy.extensions.filters.network"
_AUTHORITY = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])


@dataclass
class Authority:
    """A certificate authority of the tests, which certifies whatever URIs it is told."""

    directory: Path
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def __post_init__(self) -> None:
        certificate = (
            self._builder(self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .subject_name(_AUTHORITY)
            .sign(self.key, hashes.SHA256())
        )
        self.root.write_bytes(certificate.public_bytes(Encoding.PEM))

    @property
    def root(self) -> Path:
        """Return the file of the root certificate."""
        return self.directory / "root.pem"

    def certify(self, name: str, *uris: str) -> Path:
        """Return a file with a key and a certificate for `uris`."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = self._builder(key).subject_name(x509.Name([]))
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=True)
        certificate = builder.sign(self.key, hashes.SHA256())
        path = self.directory / f"{name}.pem"
        path.write_bytes(
            certificate.public_bytes(Encoding.PEM)
            + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        return path

    def _builder(self, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(_AUTHORITY)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )


@dataclass(frozen=True)
class Answer:
    """What the proxy did: let the request pass or not, and what it says decided."""

    allowed: bool
    decided_by: str


@dataclass
class Proxy:
    """The running Envoy; `ports` are those of mutual TLS, `plaintext` the one without."""

    authority: Authority
    ports: tuple[int, int]
    plaintext: int
    identities: dict[tuple[str, ...], ssl.SSLContext] = field(default_factory=dict)
    connections: dict[tuple[int, tuple[str, ...]], http.client.HTTPConnection] = field(
        default_factory=dict
    )

    def send(self, case: int, uris: tuple[str, ...], port: int, method: str, path: str) -> Answer:
        """Send one HTTP request over a kept connection of this identity; no URI is plaintext."""
        connection = self._connection(port, uris)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", f"case-{case}.test")
        connection.endheaders()
        response = connection.getresponse()
        body = response.read().decode()
        assert response.status in (200, 403), (response.status, body, method, path)
        return Answer(response.status == 200, body)

    def connect(self, case: int, uris: tuple[str, ...], port: int) -> bool:
        """Return whether a new TLS connection of this identity may carry bytes."""
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            self._context(uris).wrap_socket(raw, server_hostname=f"case-{case}.test") as secure,
        ):
            try:
                secure.sendall(b"x")
                return secure.recv(1) == b"x"
            except (ConnectionError, ssl.SSLError):
                return False

    def close(self) -> None:
        """Close every kept connection."""
        for connection in self.connections.values():
            connection.close()

    def _connection(self, port: int, uris: tuple[str, ...]) -> http.client.HTTPConnection:
        key = (port, uris)
        if key not in self.connections:
            self.connections[key] = (
                http.client.HTTPSConnection(
                    "127.0.0.1", port, timeout=10, context=self._context(uris)
                )
                if port in self.ports
                else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            )
        return self.connections[key]

    def _context(self, uris: tuple[str, ...]) -> ssl.SSLContext:
        if uris not in self.identities:
            context = ssl.create_default_context(cafile=str(self.authority.root))
            context.check_hostname = False
            name = f"client-{len(self.identities)}"
            context.load_cert_chain(self.authority.certify(name, *uris))
            self.identities[uris] = context
        return self.identities[uris]


@contextlib.contextmanager
def running_proxy(
    directory: Path,
    ports: tuple[int, int],
    cases: Sequence[WorkloadPolicies],
    *,
    tcp_cases: int | None = None,
) -> Iterator[Proxy]:
    """Run an Envoy that enforces `cases`, by number; `ports` is what policies may name.

    The first `tcp_cases` (all, by default) also have a TCP filter chain.
    """
    authority = Authority(directory)
    server = authority.certify("server", "spiffe://example.org/ns/shop/sa/orders")
    plaintext = free_port()
    config = directory / "envoy.json"
    config.write_text(
        json.dumps(_bootstrap(authority, server, ports, plaintext, cases, cases[:tcp_cases]))
    )
    log = directory / "envoy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [envoy(), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    proxy = Proxy(authority, ports, plaintext)
    try:
        wait_until(
            lambda: _listens(plaintext, process, log), within_seconds=30, what="Envoy listens"
        )
        yield proxy
    finally:
        proxy.close()
        process.terminate()
        process.wait(timeout=20)


def _listens(port: int, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-3000:]
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _bootstrap(
    authority: Authority,
    server: Path,
    ports: tuple[int, int],
    plaintext: int,
    cases: Sequence[WorkloadPolicies],
    tcp_cases: Sequence[WorkloadPolicies],
) -> dict[str, Any]:
    tls = _tls(authority, server)
    chains = [{"transport_socket": tls, "filters": [_http_manager(cases, mutual_tls=True)]}]
    for number, case in enumerate(tcp_cases):
        match = {"server_names": [f"case-{number}.test"]}
        filters = [_extension("rbac", _message(network_rbac(case))), _ECHO]
        chains.append({"filter_chain_match": match, "transport_socket": tls, "filters": filters})
    inspector = f"{_TYPE}envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
    listeners = [
        {
            "name": f"mutual-tls-{port}",
            "address": _address(port),
            "listener_filters": [_extension("inspector", {"@type": inspector})],
            "filter_chains": chains,
        }
        for port in ports
    ]
    manager = _http_manager(cases, mutual_tls=False)
    plain = {"address": _address(plaintext), "filter_chains": [{"filters": [manager]}]}
    return {"static_resources": {"listeners": [*listeners, {"name": "plaintext", **plain}]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _extension(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "typed_config": config}


def _message(message: Any) -> dict[str, Any]:
    return {
        "@type": f"{_TYPE}{message.DESCRIPTOR.full_name}",
        **json_format.MessageToDict(message),
    }


def _tls(authority: Authority, server: Path) -> dict[str, Any]:
    certificate = {"certificate_chain": {"filename": str(server)}}
    return _extension(
        "tls",
        {
            "@type": f"{_TYPE}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [{**certificate, "private_key": {"filename": str(server)}}],
                "validation_context": {"trusted_ca": {"filename": str(authority.root)}},
            },
        },
    )


def _http_manager(cases: Sequence[WorkloadPolicies], *, mutual_tls: bool) -> dict[str, Any]:
    details = {"text_format_source": {"inline_string": "%RESPONSE_CODE_DETAILS%"}}
    return _extension(
        "http",
        {
            "@type": f"{_NETWORK}.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "inbound",
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
            "local_reply_config": {"body_format": details},
            "route_config": {
                "virtual_hosts": [
                    _virtual_host(number, case, mutual_tls=mutual_tls)
                    for number, case in enumerate(cases)
                ]
            },
            "http_filters": [
                _extension("rbac", {"@type": f"{_HTTP}.rbac.v3.RBAC", "rules": {}}),
                _extension("router", {"@type": f"{_HTTP}.router.v3.Router"}),
            ],
        },
    )


def _virtual_host(number: int, case: WorkloadPolicies, *, mutual_tls: bool) -> dict[str, Any]:
    rbac = json_format.MessageToDict(http_rbac(case, mutual_tls=mutual_tls))
    per_route = {"@type": f"{_HTTP}.rbac.v3.RBACPerRoute", "rbac": rbac}
    return {
        "name": f"case-{number}",
        "domains": [f"case-{number}.test"],
        "typed_per_filter_config": {"rbac": per_route},
        "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
    }


_ECHO = _extension("echo", {"@type": f"{_NETWORK}.echo.v3.Echo"})
