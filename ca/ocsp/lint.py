"""Lint of the certificates of our OCSP signers: every rule, checked before an authority signs one.

One function a rule, each citing its clause; `RULES` is the whole list. They read the certificate as
a stranger would, and compare it with the `Expectation`, never with what it was written from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from ca import der
from ca.authority import Authority
from ca.ceremony import linting
from ca.keys import subject_key_id

MAXIMUM_LIFETIME: Final = timedelta(days=7)
BACKDATE: Final = timedelta(minutes=10)
_LEAST_SERIAL_BITS: Final = 64
_MOST_SERIAL_BITS: Final = 159
_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_CRITICAL: Final = {x509.BasicConstraints, x509.KeyUsage}
_KNOWN: Final = _CRITICAL | {
    x509.ExtendedKeyUsage,
    x509.OCSPNoCheck,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the certificate must say: under which authority, and for which DER public key."""

    authority: Authority
    public_key: bytes


Candidate = linting.Candidate[x509.Certificate, Expectation]


def version_is_3(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.1: extensions need version 3."""
    return None if c.made.version is x509.Version.v3 else "not version 3"


def serial_is_random_and_fits(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.2: positive, at most 20 octets; and never so short that it looks counted."""
    serial = c.made.serial_number
    fits = serial > 0 and _LEAST_SERIAL_BITS <= serial.bit_length() <= _MOST_SERIAL_BITS
    return None if fits else f"a serial of {serial.bit_length()} bits"


def signature_algorithm_is_the_authoritys(c: Candidate) -> str | None:
    """RFC 5280 4.1.1.2, 4.1.2.3: both identifiers are the one the signing key uses."""
    tbs, outer, _ = der.items(c.made.public_bytes(Encoding.DER))
    ours = c.expected.authority.signature_algorithm
    return None if (outer, der.items(tbs)[2]) == (ours, ours) else "not the authority's algorithm"


def issuer_is_the_authority(c: Candidate) -> str | None:
    """RFC 6960 4.2.2.2: issued directly by the authority it answers for; its name to the octet."""
    same = c.made.issuer.public_bytes() == c.expected.authority.subject_der
    return None if same and len(c.made.issuer) else "another issuer than the authority"


def subject_is_its_own(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.6: without a SAN it needs a name, and not that of a CA."""
    own = len(c.made.subject) > 0 and c.made.subject != c.made.issuer
    return None if own else "no subject, or the issuer's"


def validity_is_inside_the_chain(c: Candidate) -> str | None:
    """RFC 5280 6.1.3 (a)(2); invariant 3: it does not outlive, or predate, what it chains to."""
    begin, end = c.made.not_valid_before_utc, c.made.not_valid_after_utc
    authority = c.expected.authority
    if begin >= end:
        return "notBefore is not before notAfter"
    inside = authority.not_before <= begin and end <= authority.not_after
    return None if inside else "not inside the validity of its chain"


def validity_is_short(c: Candidate) -> str | None:
    """RFC 6960 4.2.2.2.1: a signer whose revocation nobody checks lives shortly."""
    length = c.made.not_valid_after_utc - c.made.not_valid_before_utc
    return None if length <= MAXIMUM_LIFETIME + BACKDATE else f"valid for {length}"


def public_key_is_the_signers(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.7: the key in our memory that will sign the answers."""
    key = c.made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return None if key == c.expected.public_key else "another public key than the signer's"


def basic_constraints_say_leaf(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.9: present, cA false."""
    value = c.value(x509.BasicConstraints)
    return None if value is not None and not value.ca else "not cA=false"


def key_usage_is_to_sign(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.3, 4.2.1.12: digitalSignature, and nothing else."""
    return None if c.value(x509.KeyUsage) == _USAGE else "not digitalSignature alone"


def extended_key_usage_is_ocsp_signing(c: Candidate) -> str | None:
    """RFC 6960 4.2.2.2: id-kp-OCSPSigning, and nothing else: it opens no TLS connection."""
    value = c.value(x509.ExtendedKeyUsage)
    alone = value is not None and list(value) == [ExtendedKeyUsageOID.OCSP_SIGNING]
    return None if alone else "not OCSPSigning alone"


def its_own_revocation_is_not_asked(c: Candidate) -> str | None:
    """RFC 6960 4.2.2.2.1: id-pkix-ocsp-nocheck, or clients would ask the signer about itself."""
    return None if c.value(x509.OCSPNoCheck) is not None else "no id-pkix-ocsp-nocheck"


def subject_key_identifier_is_the_keys(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.2; RFC 7093 method 1: the identifier of this very key."""
    ski = c.value(x509.SubjectKeyIdentifier)
    same = ski is not None and ski.digest == subject_key_id(c.expected.public_key)
    return None if same else "not the identifier of the certified key"


def authority_key_identifier_is_the_issuers(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.1: equal to the issuer's subject key identifier."""
    aki = c.value(x509.AuthorityKeyIdentifier)
    same = aki is not None and aki.key_identifier == c.expected.authority.subject_key_id
    return None if same else "not the issuer's subject key identifier"


def criticality_is_right(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.3, 4.2.1.9; RFC 6960 4.2.2.2.1: what must be critical is, nothing else."""
    critical = {kind for kind, extension in c.extensions.items() if extension.critical}
    wrong = (critical & _KNOWN) ^ (_CRITICAL & c.extensions.keys())
    return f"wrong for {', '.join(sorted(kind.__name__ for kind in wrong))}" if wrong else None


def no_other_extension(c: Candidate) -> str | None:
    """X509-SVID 2: no SAN, so that it is nobody's identity; and nothing that is not listed here."""
    other = [e.oid.dotted_string for kind, e in c.extensions.items() if kind not in _KNOWN]
    return f"unexpected extensions {', '.join(other)}" if other else None


def signature_verifies(c: Candidate) -> str | None:
    """RFC 5280 6.1.3 (a)(1): with the authority's key."""
    try:
        c.made.verify_directly_issued_by(c.expected.authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        return "it does not"
    return None


RULES: Final[Sequence[Callable[[Candidate], str | None]]] = (
    version_is_3,
    serial_is_random_and_fits,
    signature_algorithm_is_the_authoritys,
    issuer_is_the_authority,
    subject_is_its_own,
    validity_is_inside_the_chain,
    validity_is_short,
    public_key_is_the_signers,
    basic_constraints_say_leaf,
    key_usage_is_to_sign,
    extended_key_usage_is_ocsp_signing,
    its_own_revocation_is_not_asked,
    subject_key_identifier_is_the_keys,
    authority_key_identifier_is_the_issuers,
    criticality_is_right,
    no_other_extension,
)
LINT: Final[linting.Lint[x509.Certificate, Expectation]] = linting.Lint(
    what="the certificate of an OCSP signer",
    octets=lambda certificate: certificate.tbs_certificate_bytes,
    rules=RULES,
    signature_verifies=signature_verifies,
)
