"""Revocation lists, and views of them, for the tests of what proxies are sent."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.ca_certificate import make_intermediate
from ca.crl import crl_fields, encode_crl, encode_entry, sign_crl
from ca.keys import check_public_key
from ca.revocation.reason import Reason
from ca.revocation.view import Crl
from tests.builders import Pki, make_key

MARGIN = timedelta(minutes=10)


def make_crl(
    pki: Pki,
    serials: Iterable[int] = (),
    *,
    now: datetime,
    this_update: datetime | None = None,
    next_update: datetime | None = None,
    number: int = 1,
) -> Crl:
    """Return the list of the intermediate of `pki`, by default current at `now`."""
    fields = crl_fields(pki.authority(), number=number, now=now)
    fields = fields._replace(
        this_update=(this_update or fields.this_update).replace(microsecond=0),
        next_update=(next_update or fields.next_update).replace(microsecond=0),
    )
    at = now.replace(microsecond=0)
    entries = [encode_entry(serial, at, Reason.keyCompromise) for serial in serials]
    der = sign_crl(pki.authority(), encode_crl(fields, entries))
    return Crl(
        authority_id=pki.authority().authority_id,
        number=number,
        revision=number,
        this_update=fields.this_update,
        next_update=fields.next_update,
        signed_at=at,
        der=der,
    )


def make_upper(pki: Pki, *, now: datetime) -> bytes:
    """Return the PEM of the root's list, which revokes nothing."""
    builder = (
        x509.CertificateRevocationListBuilder(pki.root.subject)
        .last_update(now - MARGIN)
        .next_update(now + timedelta(days=30))
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    key = pki.root_key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def make_sibling(pki: Pki, *, now: datetime, number: int) -> Pki:
    """Return another intermediate under the root of `pki`."""
    key = make_key("p256", 300 + number)
    intermediate = make_intermediate(
        check_public_key(key.public_key()),
        root=pki.root,
        root_key=pki.root_key,
        trust_domain="example.org",
        now=now,
        lifetime=timedelta(days=7),
    )
    return Pki(pki.root, pki.root_key, intermediate, key)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of its DER in hex."""
    return sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
