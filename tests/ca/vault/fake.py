"""A small Vault of our own, for the answers that a real one gives only on its worst days.

It has one root, signs what it is sent, and answers `faults` first, one for each request whose path
ends as the fault says. What it signs can be bent: `certify` takes what differs.
"""

import json
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ca.ca_certificate import make_root
from ca.keys import PrivateKey, check_public_key
from meshca.clock import SystemClock
from tests.builders import TRUST_DOMAIN, make_key
from tests.ca.vault.serving import Handler, serving
from tests.key_usage import key_usage

SIGN = "sign-intermediate"
TOKEN = "a-token-of-the-fake"
HARMLESS = (
    "This mount hasn't configured any authority information access (AIA) fields; this may ...",
    "Max path length of the signed certificate is zero. This certificate cannot be used to ...",
)
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Fault:
    """One answer: for the next request whose path ends with `path`. Status 0 breaks off."""

    path: str
    status: int
    errors: Sequence[str] = ()
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass
class FakeVault:
    """What it answers, and what it was asked: method, path and body."""

    root_key: PrivateKey = field(default_factory=lambda: make_key("p256", 901))
    root: x509.Certificate = field(init=False)
    faults: list[Fault] = field(default_factory=list)
    bent: dict[str, Any] = field(default_factory=dict)
    signs_under: tuple[x509.Certificate, PrivateKey] | None = None
    warnings: Sequence[str] = HARMLESS
    hold: threading.Event | None = None
    tls: Path | None = None
    address: str = ""
    issuers: dict[str, list[str]] = field(default_factory=dict)
    revoked: Sequence[int] = ()
    revocation: dict[str, Any] = field(default_factory=lambda: {"data": {"revocation_time": 1}})
    seen: list[tuple[str, str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        now = SystemClock().now()
        self.root = make_root(self.root_key, trust_domain=TRUST_DOMAIN, now=now, lifetime=YEAR)

    def cross(self, **changes: Any) -> x509.Certificate:
        """Show a second root too, and return it as the first one cross-signed it, and shows it."""
        key, now = make_key("p256", 903), SystemClock().now()
        new = make_root(key, trust_domain=TRUST_DOMAIN, now=now, lifetime=YEAR)
        values = {"path_length": 1, "root": new, **changes}
        bridge = certify(key.public_key(), issuer=self.root, issuer_key=self.root_key, **values)
        self.issuers["new"] = [pem_of(new), pem_of(bridge), pem_of(self.root)]
        self.issuers["bridge"] = [pem_of(bridge), pem_of(self.root)]
        return bridge

    def asked(self, path: str) -> list[Any]:
        """Return the bodies of the requests whose path ends with `path`."""
        return [body for _, found, body in self.seen if found.endswith(path)]

    def answer(self, path: str, body: Any) -> dict[str, Any]:
        """Return what a healthy Vault answers."""
        if path.endswith("lookup-self"):
            return {"data": {"ttl": 3600, "renewable": False}}
        if path.endswith("/login"):
            return {"auth": {"client_token": TOKEN, "lease_duration": 1200, "renewable": True}}
        if path.endswith("/issuers"):
            return {"data": {"keys": ["the-root", *self.issuers]}}
        if path.endswith("/json"):
            chain = self.issuers.get(path.split("/")[-2], [pem_of(self.root)])
            return {"data": {"certificate": chain[0], "ca_chain": chain}}
        if path.endswith("/crl"):
            return {"data": {"crl": self.crl()}}
        if path.endswith("/revoke"):
            return self.revocation
        return self.signed(body)

    def signed(self, body: Any) -> dict[str, Any]:
        """Return the answer to a request to sign, bent as the test says."""
        csr = x509.load_pem_x509_csr(body["csr"].encode())
        key = check_public_key(csr.public_key())
        root, root_key = self.signs_under or (self.root, self.root_key)
        certificate = certify(key, issuer=root, issuer_key=root_key, **self.bent)
        chain = [pem_of(certificate), pem_of(root)]
        data = {"certificate": chain[0], "issuing_ca": chain[1], "ca_chain": chain}
        return {"data": data, "warnings": list(self.warnings)}

    def crl(self) -> str:
        """Return the root's revocation list."""
        now = SystemClock().now()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.root.subject)
        builder = builder.last_update(now).next_update(now + timedelta(days=3))
        for number in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.root_key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def certify(
    key: Any,
    *,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    another_key: bool = False,
    ca: bool = True,
    path_length: int | None = 0,
    key_cert_sign: bool = True,
    crl_sign: bool = True,
    names: Sequence[x509.GeneralName] | None = None,
    begin: timedelta = timedelta(seconds=-30),
    end: datetime | None = None,
    root: x509.Certificate | None = None,
) -> x509.Certificate:
    """Return the intermediate that we ask for, but for what the test changes.

    With `root` it has the name and the key identifier of that.
    """
    now = SystemClock().now()
    key = make_key("p256", 902).public_key() if another_key else key
    if names is None:
        names = [x509.UniformResourceIdentifier(f"spiffe://{TRUST_DOMAIN}")]
    usage = key_usage(key_cert_sign=key_cert_sign, crl_sign=crl_sign)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")])
    if root is not None:
        identifier = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        subject = root.subject
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier
    issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(end or now + timedelta(days=7))
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(authority(issuer_id), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def stranger() -> PrivateKey:
    """Return a key that belongs to nobody here."""
    return ec.generate_private_key(ec.SECP256R1())


def pem_of(certificate: x509.Certificate) -> str:
    """Return PEM as Vault writes it."""
    return certificate.public_bytes(Encoding.PEM).decode()


@contextmanager
def fake_vault(**values: Any) -> Iterator[FakeVault]:
    """Run a fake until the `with` ends."""
    fake = FakeVault(**values)
    handler = type("Handler", (_Handler,), {"fake": fake})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if fake.tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(fake.tls / "server.pem", fake.tls / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if fake.tls is None else "https"
    with serving(server) as port:
        fake.address = f"{scheme}://127.0.0.1:{port}"
        try:
            yield fake
        finally:
            if fake.hold is not None:
                fake.hold.set()


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    fake: ClassVar[FakeVault]

    def answer(self, raw: bytes) -> None:
        """Answer as the fake does, or with a fault."""
        body = json.loads(raw) if raw else None
        self.fake.seen.append((self.command, self.path, body))
        if self.fake.hold is not None:
            self.fake.hold.wait(20)
        for fault in self.fake.faults:
            if self.path.endswith(fault.path):
                self.fake.faults.remove(fault)
                self._fail(fault)
                return
        self._send(200, json.dumps(self.fake.answer(self.path, body)).encode(), {})

    def _fail(self, fault: Fault) -> None:
        if fault.status == 0:
            self.close_connection = True
            return
        content = fault.body
        if content is None:
            content = json.dumps({"errors": list(fault.errors)}).encode()
        self._send(fault.status, content, fault.headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        with suppress(OSError):  # a client that has given up
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
