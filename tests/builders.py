"""Good defaults for tests of issuance and rotation; override the one thing that matters."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authority import Authorities, Authority, Signer
from ca.ca_certificate import make_intermediate, make_root
from ca.issuance import Issuance
from ca.keys import PrivateKey, PrivateKeySigner, check_public_key, public_key_der
from ca.profile import Profile
from ca.request import IssuanceRequest
from ca.store import Inventory
from identity.caller import Caller, Evidence
from meshca.database import GroupWriter, Sink
from meshca.metrics import Metrics
from meshca.spiffe_id import SpiffeId
from tests.fakes import FakeClock
from tests.stores import SINKS, Document, documents, sqlite_engine, writer_of

TRUST_DOMAIN = "example.org"
NOW = FakeClock().now()
ORDERS = SpiffeId(TRUST_DOMAIN, "/ns/shop/sa/orders")
KEY_KINDS = ("p256", "p384", "rsa2048")


@cache
def make_key(kind: str = "p256", number: int = 0) -> PrivateKey:
    """Return the key called `kind` and `number`, the same each time: RSA keys are slow to make."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:]))
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


@dataclass(frozen=True)
class Pki:
    """A root and an intermediate with their keys."""

    root: x509.Certificate
    root_key: PrivateKey
    intermediate: x509.Certificate
    intermediate_key: PrivateKey

    def authority(self, signer: Signer | None = None) -> Authority:
        """Return the intermediate as an authority that may sign."""
        signer = signer or PrivateKeySigner(self.intermediate_key)
        return Authority((self.intermediate,), self.root, signer)


def make_pki(
    kind: str = "p256",
    *,
    now: datetime = NOW,
    lifetime: timedelta = timedelta(days=7),
    root_lifetime: timedelta = timedelta(days=3650),
    trust_domain: str = TRUST_DOMAIN,
    number: int = 1,
) -> Pki:
    """Return a root and an intermediate of `kind`, both made at `now`."""
    root_key, key = make_key(kind, 100 + number), make_key(kind, 200 + number)
    root = make_root(root_key, trust_domain=trust_domain, now=now, lifetime=root_lifetime)
    intermediate = make_intermediate(
        check_public_key(key.public_key()),
        root=root,
        root_key=root_key,
        trust_domain=trust_domain,
        now=now,
        lifetime=lifetime,
    )
    return Pki(root, root_key, intermediate, key)


def make_authority(kind: str = "p256", *, signer: Signer | None = None, **pki: Any) -> Authority:
    """Return an authority; keyword arguments are those of `make_pki`."""
    return make_pki(kind, **pki).authority(signer)


def make_profile(**changes: Any) -> Profile:
    """Return the default profile: an hour, at most a day, a minute of backdating, no URLs."""
    values: dict[str, Any] = {
        "trust_domain": TRUST_DOMAIN,
        "lifetime": timedelta(hours=1),
        "maximum_lifetime": timedelta(hours=24),
        "backdate": timedelta(seconds=60),
    }
    return Profile(**{**values, **changes})


EVIDENCE = Evidence(
    method="kubernetes_jwks",
    cluster="prod-eu",
    issuer="https://kubernetes.default.svc",
    namespace="shop",
    service_account="orders",
    service_account_uid="0b0e8a3c",
    pod_name="orders-0",
    pod_uid="5f0d7f0a",
    node="node-1",
    token_id="7e0c7a52",
)


def make_caller(
    spiffe_id: SpiffeId = ORDERS,
    *,
    expires_at: datetime = NOW + timedelta(hours=24),
    **evidence: str,
) -> Caller:
    """Return an attested caller: the pod orders-0 of namespace shop."""
    return Caller(spiffe_id, replace(EVIDENCE, **evidence), expires_at)


def make_request(kind: str = "p256", lifetime: timedelta | None = None) -> IssuanceRequest:
    """Return the request to certify the public key of `make_key(kind)`."""
    key = check_public_key(make_key(kind).public_key())
    is_ec = isinstance(key, ec.EllipticCurvePublicKey)
    return IssuanceRequest(public_key_der(key), is_ec, lifetime)


def csr_builder(
    *,
    uris: Sequence[str] = (),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
    subject: x509.Name | None = None,
) -> x509.CertificateSigningRequestBuilder:
    """Return an unsigned CSR with what is asked for; the subject is empty unless given."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension, is_critical in extensions:
        builder = builder.add_extension(extension, critical=is_critical)
    return builder


def make_csr(key: Any = None, *, encoding: Encoding = Encoding.PEM, **asked: Any) -> bytes:
    """Return a signed CSR; keyword arguments are those of `csr_builder`."""
    builder = csr_builder(**asked)
    return builder.sign(key or make_key(), hashes.SHA256()).public_bytes(encoding)


@dataclass
class Issuing:
    """The issuance function with its surroundings."""

    issuance: Issuance
    authorities: Authorities
    engine: sa.Engine
    writer: GroupWriter
    clock: FakeClock
    metrics: Metrics

    @property
    def inventory(self) -> Inventory:
        """Return the inventory that issuance writes."""
        return Inventory(self.engine)

    def entries(self) -> list[Document]:
        """Return the audit log's entries, oldest first."""
        return documents(self.engine)

    def sample(self, name: str, **labels: str) -> float:
        """Return the value of a metric's sample; 0 before there is one."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def issuing(
    directory: Path,
    *,
    authority: Authority | None = None,
    profile: Profile | None = None,
    clock: FakeClock | None = None,
    sinks: Mapping[type, Sink] = SINKS,
) -> AsyncIterator[Issuing]:
    """Run a writer on SQLite in `directory` with the issuance function on top."""
    clock, metrics = clock or FakeClock(), Metrics()
    authority = authority or make_authority()
    authorities = Authorities(TRUST_DOMAIN)
    authorities.activate(authority, (authority.root,))
    with sqlite_engine(directory) as engine:
        async with writer_of(engine, clock=clock, metrics=metrics, sinks=sinks) as writer:
            issuance = Issuance(
                authorities=authorities,
                profile=profile or make_profile(),
                writer=writer,
                clock=clock,
                metrics=metrics,
            )
            yield Issuing(issuance, authorities, engine, writer, clock, metrics)
