"""The one who signs OCSP answers for an authority: a key in memory, certified by that authority.

    make -> Draft (linted) -> sign (the authority's key) -> Delegate (linted again, verified)

The certificate (RFC 6960 4.2.2.2) lives a quarter of what its authority has left, an hour at least
and a week at most, and never longer than the authority's chain. It is renewed at half of its life.
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha1
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from ca import der, keys
from ca.authority import Authority
from ca.issuer import SERIAL_BITS
from ca.keys import PrivateKeySigner, subject_key_id
from ca.ocsp.lint import BACKDATE, LINT, MAXIMUM_LIFETIME, Expectation
from ca.tbs import assemble
from meshca.errors import AuthorityUnavailable, IssuanceFault, MeshcaError

LEAST_LIFETIME: Final = timedelta(hours=1)
_PART_OF_AUTHORITY: Final = 4
_NO_SIGNATURE: Final = bytes(64)
_VERSION_3: Final = bytes.fromhex("a003020102")
# Basic constraints: not a CA. Key usage: digitalSignature. Both critical. Then the extended key
# usage OCSPSigning, and ocsp-nocheck.
_FIXED: Final = bytes.fromhex(
    "300c0603551d130101ff04023000"
    "300e0603551d0f0101ff040403020780"
    "30130603551d25040c300a06082b06010505070309"
    "300f06092b060105050730010504020500"
)
_SUBJECT_KEY_ID: Final = bytes.fromhex("301d0603551d0e04160414")
_AUTHORITY_KEY_ID: Final = bytes.fromhex("0603551d23")


@dataclass(frozen=True, slots=True)
class Draft:
    """A signer's certificate to be, linted; only `make` makes one."""

    tbs: bytes = field(repr=False)
    authority: Authority = field(repr=False)
    public_key: bytes = field(repr=False)
    serial: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Delegate:
    """Signs answers for one authority until `not_after`; another one is due at `renew_at`.

    `key_hash` names it in its answers (RFC 6960 4.2.1: the SHA-1 of its key).
    """

    authority_id: str
    signer: PrivateKeySigner
    certificate: x509.Certificate
    der: bytes = field(repr=False)
    key_hash: bytes
    not_before: datetime
    not_after: datetime
    renew_at: datetime


def make(authority: Authority, now: datetime, trust_domain: str, public_key: bytes) -> Draft:
    """Return the certificate of `public_key` (DER) to be, linted before a key is touched.

    Raises AuthorityUnavailable when the authority is not valid now, IssuanceFault when lint finds a
    broken rule.
    """
    now = now.replace(microsecond=0)
    if not authority.not_before <= now < authority.not_after:
        raise AuthorityUnavailable(f"authority {authority.authority_id} is not valid now")
    validity = (
        max(now - BACKDATE, authority.not_before),
        min(now + _lifetime(authority, now), authority.not_after),
    )
    tbs = _encode(authority, public_key, validity, trust_domain)
    certificate = _parse(tbs, authority, _NO_SIGNATURE)
    LINT.check(certificate, Expectation(authority, public_key))
    serial = f"{certificate.serial_number:x}"
    return Draft(tbs, authority, public_key, serial, *validity)


def sign(draft: Draft) -> x509.Certificate:
    """Return the certificate: a place where the authority's key signs; it may block.

    Raises IssuanceFault when that fails or the certificate is not what was linted, unless the key
    says why with an error of its own.
    """
    authority = draft.authority
    try:
        signature = authority.signer.sign(draft.tbs)
    except MeshcaError:
        raise
    except Exception as error:  # a signer is anybody's code, and its failure is recorded
        raise IssuanceFault(f"the authority's key did not sign ({error!r})") from error
    certificate = _parse(draft.tbs, authority, signature)
    LINT.check_signed(certificate, Expectation(authority, draft.public_key))
    return certificate


def appoint(
    authority_id: str,
    certificate: x509.Certificate,
    signer: PrivateKeySigner,
    made_at: datetime | None = None,
) -> Delegate:
    """Return the holder of the key that `certificate` certifies, as one who signs answers.

    Raises IssuanceFault when it certifies another key.
    """
    public_key = keys.public_key_der(signer.key.public_key())
    certified = certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    if certified != public_key:
        raise IssuanceFault("the OCSP signer's certificate is for another key")
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return Delegate(
        authority_id=authority_id,
        signer=signer,
        certificate=certificate,
        der=certificate.public_bytes(Encoding.DER),
        key_hash=sha1(der.public_key_bits(public_key)).digest(),  # noqa: S324  # RFC 6960 4.2.1
        not_before=begins,
        not_after=ends,
        renew_at=renewal_of(certificate, made_at),
    )


def renewal_of(certificate: x509.Certificate, made_at: datetime | None = None) -> datetime:
    """Return when to have another one in its place: at half of its life."""
    begins, ends = made_at or certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins + (ends - begins) / 2


def _lifetime(authority: Authority, now: datetime) -> timedelta:
    part = (authority.not_after - now) // _PART_OF_AUTHORITY
    lifetime = min(max(part, LEAST_LIFETIME), MAXIMUM_LIFETIME)
    return timedelta(seconds=int(lifetime.total_seconds()))


def _encode(
    authority: Authority,
    public_key: bytes,
    validity: tuple[datetime, datetime],
    trust_domain: str,
) -> bytes:
    key_id = subject_key_id(public_key)
    issuer_id = der.encode(0x30, der.encode(0x80, authority.subject_key_id))
    extensions = der.encode(
        0x30,
        _FIXED,
        _SUBJECT_KEY_ID,
        key_id,
        der.encode(0x30, _AUTHORITY_KEY_ID, der.encode(0x04, issuer_id)),
    )
    return der.encode(
        0x30,
        _VERSION_3,
        der.integer(secrets.randbits(SERIAL_BITS)),
        authority.signature_algorithm,
        authority.subject_der,
        der.validity(*validity),
        _name(trust_domain, key_id).public_bytes(),
        public_key,
        der.encode(0xA3, extensions),
    )


def _name(trust_domain: str, key_id: bytes) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "meshca"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain} OCSP signer"[:64]),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, key_id.hex()[:16]),
        ]
    )


def _parse(tbs: bytes, authority: Authority, signature: bytes) -> x509.Certificate:
    encoded = assemble(tbs, authority.signature_algorithm, signature)
    try:
        return x509.load_der_x509_certificate(encoded)
    except ValueError as error:
        raise IssuanceFault("the OCSP signer's certificate does not parse") from error
