"""Lint: every rule a leaf must keep, checked on the bytes before the authority's key is used.

One function a rule, each citing its clause, each returning what is wrong or None. `RULES` is the
whole list; a rule that is not in it does not exist. Rules look at the certificate as a stranger
would parse it, and at the `Expectation` of the one who asked for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from meshca.errors import IssuanceFault
from meshca.spiffe_id import SpiffeId

_LEAST_SERIAL_BITS: Final = 64
_MOST_SERIAL_BITS: Final = 159
_KNOWN: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    }
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the certificate must say; `bounds` are the validity periods of all above it."""

    spiffe_id: SpiffeId
    trust_domain: str
    subject_public_key: bytes
    subject_key_id: bytes
    issuer: bytes
    authority_key_id: bytes
    signature_algorithm: bytes
    earliest: datetime
    latest: datetime
    longest: timedelta
    dns_names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A certificate under lint: parsed once, extensions by type."""

    certificate: x509.Certificate
    extensions: dict[type[x509.ExtensionType], x509.Extension[x509.ExtensionType]]
    expected: Expectation


_E = TypeVar("_E", bound=x509.ExtensionType)
Rule = Callable[[Candidate], str | None]


def check(certificate: x509.Certificate, expected: Expectation) -> None:
    """Apply every rule of RULES; raise IssuanceFault naming each one that is broken."""
    try:
        extensions = {type(e.value): e for e in certificate.extensions}
    except (ValueError, x509.DuplicateExtension) as error:
        raise IssuanceFault(f"lint: extensions do not parse: {error}") from error
    candidate = Candidate(certificate, extensions, expected)
    broken = [f"{r.__name__}: {wrong}" for r in RULES if (wrong := r(candidate)) is not None]
    if broken:
        raise IssuanceFault("lint refused the certificate: " + "; ".join(broken))


def _value(candidate: Candidate, kind: type[_E]) -> _E | None:
    found = candidate.extensions.get(kind)
    return found.value if found is not None and isinstance(found.value, kind) else None


def _is_critical(candidate: Candidate, kind: type[x509.ExtensionType]) -> bool:
    found = candidate.extensions.get(kind)
    return found is not None and found.critical


def version_is_3(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.1: extensions need version 3."""
    return None if c.certificate.version is x509.Version.v3 else "not version 3"


def serial_is_random_and_fits(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.2: positive, at most 20 octets; and never so short that it looks counted."""
    bits = c.certificate.serial_number.bit_length()
    if c.certificate.serial_number <= 0 or not _LEAST_SERIAL_BITS <= bits <= _MOST_SERIAL_BITS:
        return f"serial has {bits} bits"
    return None


def signature_algorithm_is_the_authoritys(c: Candidate) -> str | None:
    """RFC 5280 4.1.1.2, 4.1.2.3: both identifiers are the one the signing key uses."""
    algorithm = c.expected.signature_algorithm
    tbs = c.certificate.tbs_certificate_bytes
    return None if algorithm in tbs[:64] else "another signature algorithm than the authority's"


def issuer_is_the_authority(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.4: the issuer's name, not empty, to the byte."""
    issuer = c.certificate.issuer.public_bytes()
    return None if issuer == c.expected.issuer and len(issuer) > 2 else "another issuer name"


def validity_is_inside_the_chain(c: Candidate) -> str | None:
    """RFC 5280 6.1.3 (a)(2); invariant 3: no leaf outlives, or predates, what it chains to."""
    begin, end = c.certificate.not_valid_before_utc, c.certificate.not_valid_after_utc
    if begin >= end:
        return "notBefore is not before notAfter"
    if begin < c.expected.earliest:
        return f"begins before its chain does ({c.expected.earliest.isoformat()})"
    return None if end <= c.expected.latest else f"outlives {c.expected.latest.isoformat()}"


def validity_is_short(c: Candidate) -> str | None:
    """The profile's maximum lifetime, backdating included."""
    length = c.certificate.not_valid_after_utc - c.certificate.not_valid_before_utc
    return None if length <= c.expected.longest else f"valid for {length}"


def subject_is_empty(c: Candidate) -> str | None:
    """Profile: identity is in the SAN only, so nothing else can be mistaken for it."""
    return None if not list(c.certificate.subject) else "the subject is not empty"


def public_key_is_the_requested(c: Candidate) -> str | None:
    """Invariant 1: the certified key is the one whose possession was proven."""
    spki = c.certificate.tbs_certificate_bytes.find(c.expected.subject_public_key)
    return None if spki >= 0 else "another public key than requested"


def san_is_critical_with_one_spiffe_uri(c: Candidate) -> str | None:
    """X509-SVID 2, 3.1; RFC 5280 4.2.1.6: one URI, the caller's; critical: no subject."""
    san = _value(c, x509.SubjectAlternativeName)
    if san is None or not _is_critical(c, x509.SubjectAlternativeName):
        return "no critical subject alternative name"
    uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    if uris != [str(c.expected.spiffe_id)]:
        return "the URIs are not exactly the caller's SPIFFE ID"
    names = tuple(san.get_values_for_type(x509.DNSName))
    if names != c.expected.dns_names or len(list(san)) != 1 + len(names):
        return "names beyond those that policy allows"
    return None


def identity_is_a_leaf_of_the_trust_domain(c: Candidate) -> str | None:
    """X509-SVID 3.1: a leaf's ID has a path; and it lies in our trust domain."""
    ours = c.expected.spiffe_id.trust_domain == c.expected.trust_domain
    return None if ours and c.expected.spiffe_id.is_leaf else "not a leaf ID of the trust domain"


def basic_constraints_say_leaf(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.9; X509-SVID 4.1: critical, cA false."""
    value = _value(c, x509.BasicConstraints)
    critical = _is_critical(c, x509.BasicConstraints)
    return None if value is not None and critical and not value.ca else "not critical cA=false"


def key_usage_is_for_a_leaf(c: Candidate) -> str | None:
    """X509-SVID 4.3: critical, digitalSignature, neither keyCertSign nor cRLSign."""
    value = _value(c, x509.KeyUsage)
    if value is None or not _is_critical(c, x509.KeyUsage):
        return "no critical key usage"
    if not value.digital_signature or value.key_cert_sign or value.crl_sign:
        return "key usage is not that of a leaf"
    return None


def extended_key_usage_is_both_ends(c: Candidate) -> str | None:
    """X509-SVID 4.4: serverAuth and clientAuth, nothing else."""
    value = _value(c, x509.ExtendedKeyUsage)
    both = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    return None if value is not None and set(value) == both else "not serverAuth and clientAuth"


def key_identifiers_link_the_chain(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.1, 4.2.1.2: SKI of this key, AKI equal to the issuer's SKI."""
    ski, aki = _value(c, x509.SubjectKeyIdentifier), _value(c, x509.AuthorityKeyIdentifier)
    if ski is None or ski.digest != c.expected.subject_key_id:
        return "the subject key identifier is not that of the key"
    if aki is None or aki.key_identifier != c.expected.authority_key_id:
        return "the authority key identifier is not the issuer's"
    return None


def no_other_extension(c: Candidate) -> str | None:
    """Profile: what is not in it is not issued."""
    other = [e.oid.dotted_string for e in c.certificate.extensions if e.oid not in _KNOWN]
    return f"unexpected extensions {other}" if other else None


RULES: Final[Sequence[Rule]] = (
    version_is_3,
    serial_is_random_and_fits,
    signature_algorithm_is_the_authoritys,
    issuer_is_the_authority,
    validity_is_inside_the_chain,
    validity_is_short,
    subject_is_empty,
    public_key_is_the_requested,
    san_is_critical_with_one_spiffe_uri,
    identity_is_a_leaf_of_the_trust_domain,
    basic_constraints_say_leaf,
    key_usage_is_for_a_leaf,
    extended_key_usage_is_both_ends,
    key_identifiers_link_the_chain,
    no_other_extension,
)
