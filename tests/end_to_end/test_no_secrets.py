"""No token, key, passphrase, certificate request or secret of a caller is in database or log."""

import base64
import re
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from envoy.extensions.transport_sockets.tls.v3.secret_pb2 import Secret
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from envoy.service.discovery.v3.discovery_pb2 import DiscoveryRequest, DiscoveryResponse

from authz.workload import Workload
from meshca.demo.probes import SECRET_TYPE, forge
from sds.labels import LABELS_KEY, write_labels
from tests.end_to_end.server import RunningServer, allow, spiffe_id
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end

PASSPHRASE = "canary-passphrase-5d1c"
HEADER, COOKIE, QUERY, CLAIM = (f"canary-{what}-9b27" for what in ("bearer", "cookie", "q", "mail"))
SHOWN = ("/items", "/admin")
KEY_OR_TOKEN = re.compile(rb"BEGIN (EC |RSA )?PRIVATE KEY|BEGIN CERTIFICATE REQUEST|eyJ[\w-]{8,}\.")
LONGEST_PART = 48


def channel(server: RunningServer) -> grpc.Channel:
    """Return a channel to the mesh listener."""
    credentials = grpc.ssl_channel_credentials(server.roots.read_bytes())
    options = [("grpc.ssl_target_name_override", "localhost")]
    return grpc.secure_channel(f"127.0.0.1:{server.port}", credentials, options)


def fetch_key(server: RunningServer, token: str) -> bytes:
    """Return the private key that the server makes for the proxy of `token`."""
    request = DiscoveryRequest(type_url=SECRET_TYPE, resource_names=["default"])
    with channel(server) as opened:
        fetch = opened.unary_unary(
            "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
            request_serializer=DiscoveryRequest.SerializeToString,
            response_deserializer=DiscoveryResponse.FromString,
        )
        answer = fetch(request, metadata=bearer(token), timeout=10)
    secret = Secret()
    assert answer.resources[0].Unpack(secret)
    return bytes(secret.tls_certificate.private_key.inline_bytes)


def bearer(token: str, **more: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"), *more.items())


def check(server: RunningServer, token: str, path: str) -> CheckResponse:
    """Ask as the proxy of `orders` does about a request that is full of secrets."""
    message = CheckRequest()
    attributes = message.attributes
    attributes.source.principal = spiffe_id("frontend")
    attributes.destination.address.socket_address.port_value = 8443
    http = attributes.request.http
    http.method, http.path, http.host = "GET", f"{path}?password={QUERY}", "orders.shop"
    http.headers.update({"authorization": f"Bearer {HEADER}", "cookie": f"session={COOKIE}"})
    http.headers.update({"x-request-id": "canary-request-1"})
    found = attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    found.update({"payload": {"iss": "https://issuer.example", "sub": "ann", "email": CLAIM}})
    labels = {LABELS_KEY: write_labels(Workload("shop", {"app": "orders"}))}
    with channel(server) as opened:
        ask = opened.unary_unary(
            "/envoy.service.auth.v3.Authorization/Check",
            request_serializer=CheckRequest.SerializeToString,
            response_deserializer=CheckResponse.FromString,
        )
        answer: CheckResponse = ask(message, metadata=bearer(token, **labels), timeout=10)
    return answer


def issue(server: RunningServer, directory: Path, token: str) -> tuple[int, bytes]:
    """Ask for a certificate with a request of our own; return exit status and the request's PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    (directory / "request.pem").write_bytes(request)
    (directory / "token").write_text(token)
    files = ("--csr", str(directory / "request.pem"), "--token-file", str(directory / "token"))
    return server.run("svid", "issue", *files).returncode, request


def everything(server: RunningServer) -> dict[str, bytes]:
    """Return each value of the database, the database's files, and the server's log."""
    (path,) = server.config.parent.rglob("meshca.db")
    found = {file.name: file.read_bytes() for file in path.parent.glob("meshca.db*")}
    with closing(sqlite3.connect(path)) as connection:
        connection.text_factory = bytes
        names = [
            n.decode()
            for (n,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for name in names:
            rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()  # noqa: S608  # our own schema
            found[name] = b"\n".join(_bytes(value) for row in rows for value in row)
    return {**found, "server.log": server.log.read_bytes()}


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def parts(pem: bytes) -> list[bytes]:
    """Return the base64 lines of a PEM block, and its DER."""
    lines = [line for line in pem.splitlines() if line and not line.startswith(b"-")]
    return [
        *(line for line in lines if len(line) >= LONGEST_PART),
        base64.b64decode(b"".join(lines)),
    ]


def test_secrets_are_in_no_entry_no_table_and_no_log(tmp_path: Path) -> None:
    passphrase = tmp_path / "passphrase"
    passphrase.write_text(PASSPHRASE)
    passphrase.chmod(0o600)
    at_rest = {"kind": "passphrase", "passphrase_file": str(passphrase)}
    with RunningServer(tmp_path / "s", settings={"key_at_rest": at_rest}) as server:
        server.apply(allow("frontend", "orders", paths=["/items"]))
        token = server.token("orders")
        status, request = issue(server, tmp_path, token)
        assert status == 0
        refused = [
            forge(token),
            "not-a-token-canary",
            server.token("orders", "--audience", "other"),
        ]
        assert [issue(server, tmp_path, each)[0] for each in refused] == [1, 1, 1]
        key = fetch_key(server, token)
        assert b"PRIVATE KEY" in key
        codes = [check(server, token, path).status.code for path in SHOWN]
        assert codes == [0, 7]
        server.meshca("svid", "revoke", "--service-account", "orders", "--reason", "keyCompromise",
                      "--why", "canary")  # fmt: skip
        wait_until(
            lambda: server.query("audit", "query", "--kind", "decision")["entries"],
            within_seconds=10,
            what="the denial in the log",
        )
        (denied,) = server.query("audit", "query", "--kind", "decision")["entries"]
        assert (denied["details"]["path"], denied["request_id"]) == ("/admin", "canary-request-1")
        server.stop(signal.SIGTERM)
        found = everything(server)
    assert b"/admin" in found["audit_entries"], "what is looked through is what was written"
    secrets = [
        *(text.encode() for text in (PASSPHRASE, HEADER, COOKIE, QUERY, CLAIM)),
        *(
            piece.encode()
            for each in (token, *refused)
            for piece in each.split(".")
            if len(piece) > 20
        ),
        *parts(request),
        *parts(key),
    ]
    for name, content in found.items():
        assert not [secret for secret in secrets if secret in content], name
        assert not KEY_OR_TOKEN.findall(content), name
