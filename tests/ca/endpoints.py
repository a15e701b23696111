"""Bundle endpoints of other trust domains: real HTTPS servers, and a fake for everything above."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca.bundle import TrustBundle
from ca.federation.store import Relation
from ca.keys import private_key_pem
from meshca.clock import SystemClock
from tests.builders import Pki, make_key, make_pki
from tests.key_usage import key_usage

PARTNER = "partner.test"
ENDPOINT_ID = f"spiffe://{PARTNER}/meshca/server"


def pki_now(trust_domain: str = PARTNER, number: int = 1) -> Pki:
    """Return a PKI that is valid now, by the real clock, which OpenSSL uses."""
    return make_pki(trust_domain=trust_domain, number=number, now=SystemClock().now())


def document(pki: Pki, sequence: int = 1, trust_domain: str = PARTNER) -> bytes:
    """Return the bundle that `pki`'s trust domain publishes."""
    return TrustBundle(trust_domain, (pki.root,), sequence).spiffe_json()


def leaf(pki: Pki, *, uri: str = "", dns: str = "", ip: str = "") -> tuple[bytes, bytes]:
    """Return key and chain (PEM) of a server certificate under `pki` with the names given."""
    key, now = make_key(number=300), SystemClock().now()
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)] if uri else []
    names += [x509.DNSName(dns)] if dns else []
    names += [x509.IPAddress(ip_address(ip))] if ip else []
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer = pki.intermediate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "endpoint")]))
        .issuer_name(pki.intermediate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(key_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(pki.intermediate_key, hashes.SHA256())
    )
    chain = certificate.public_bytes(Encoding.PEM) + pki.intermediate.public_bytes(Encoding.PEM)
    return private_key_pem(key), chain


@dataclass
class Served:
    """What a real endpoint answers with; `hold` keeps it from answering at all."""

    body: bytes = b"{}"
    status: str = "200 OK"
    headers: Sequence[str] = ("Content-Type: application/json",)
    hold: bool = False
    drips: bool = False
    requests: list[bytes] = field(default_factory=list)
    url: str = ""


@asynccontextmanager
async def https_server(
    directory: Path, key: bytes, chain: bytes, served: Served
) -> AsyncIterator[Served]:
    """Serve `served` on 127.0.0.1 with the certificate given."""
    pem = directory / "endpoint.pem"
    pem.write_bytes(chain + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            served.requests.append(await reader.readuntil(b"\r\n\r\n"))
            if served.hold:
                await reader.read()
            await _write(writer, served)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    served.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/bundle.json"
    try:
        yield served
    finally:
        server.close()


async def _write(writer: asyncio.StreamWriter, served: Served) -> None:
    head = [f"HTTP/1.1 {served.status}", *served.headers, "Connection: close"]
    writer.write("\r\n".join([*head, "", ""]).encode())
    while served.drips:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)
    writer.write(served.body)
    await writer.drain()


@dataclass
class FakeEndpoints:
    """Endpoints as the test says: a document, or what is raised instead, by trust domain."""

    answers: dict[str, bytes | Exception] = field(default_factory=dict)
    asked: list[tuple[str, tuple[x509.Certificate, ...]]] = field(default_factory=list)

    async def fetch(self, relation: Relation, roots: Sequence[x509.Certificate]) -> bytes:
        """Return what the test said."""
        self.asked.append((relation.trust_domain, tuple(roots)))
        answer = self.answers[relation.trust_domain]
        if isinstance(answer, Exception):
            raise answer
        return answer
