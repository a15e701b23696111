"""Lint: every rule a leaf must keep, checked on the bytes before the authority's key is used.

One function a rule, each citing its clause, each returning what is wrong or None. `RULES` is the
whole list; a rule that is not in it does not exist. Rules look at the certificate as a stranger
would: its extensions and dates as `cryptography` parses them, the rest as the exact octets that
stand at their place in the TBSCertificate. They compare it with the `Expectation` of the one who
asked for it, never with what the certificate was written from.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from ca import der
from ca.authority import Authority
from ca.profile import Profile
from meshca.errors import IssuanceFault
from meshca.spiffe_id import SpiffeId

_UNREADABLE: Final = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_LEAST_SERIAL_BITS: Final = 64
_MOST_SERIAL_BITS: Final = 159
_VERSION_3: Final = bytes.fromhex("a003020102")
_EMPTY_NAME: Final = bytes.fromhex("3000")
_EC_PUBLIC_KEY: Final = bytes.fromhex("06072a8648ce3d0201")
_EC_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=True,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_RSA_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=True,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_OCSP: Final = AuthorityInformationAccessOID.OCSP
_CA_ISSUERS: Final = AuthorityInformationAccessOID.CA_ISSUERS
_BOTH_ENDS: Final = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
_CRITICAL: Final = {x509.BasicConstraints, x509.KeyUsage, x509.SubjectAlternativeName}
_KNOWN: Final = _CRITICAL | {
    x509.ExtendedKeyUsage,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
    x509.CRLDistributionPoints,
    x509.AuthorityInformationAccess,
}


class Expectation(NamedTuple):
    """What the certificate must say: whose it is, for which key, under whom, by which profile."""

    spiffe_id: SpiffeId
    dns_names: tuple[str, ...]
    public_key: bytes
    subject_key_id: bytes
    authority: Authority
    profile: Profile


class Candidate(NamedTuple):
    """A certificate taken apart once: octets as they stand, dates, extensions by type."""

    version: bytes
    serial: bytes
    signature_algorithms: tuple[bytes, bytes]
    issuer: bytes
    validity: bytes
    subject: bytes
    public_key: bytes
    not_before: datetime
    not_after: datetime
    extensions: Mapping[type[x509.ExtensionType], x509.ExtensionType]
    critical: Set[type[x509.ExtensionType]]
    expected: Expectation


_E = TypeVar("_E", bound=x509.ExtensionType)
Rule = Callable[[Candidate], str | None]


def check(certificate: bytes, expected: Expectation) -> None:
    """Apply every rule of RULES to a DER certificate; its signature may be a stand-in.

    Raises IssuanceFault naming each rule that is broken.
    """
    candidate = _take_apart(certificate, expected)
    broken = [f"{r.__name__}: {wrong}" for r in RULES if (wrong := r(candidate)) is not None]
    if broken:
        raise IssuanceFault("lint refused the certificate: " + "; ".join(broken))


def _take_apart(certificate: bytes, expected: Expectation) -> Candidate:
    try:
        tbs, outer_algorithm, _ = der.items(certificate)
        version, serial, algorithm, issuer, validity, subject, public_key, _ = der.items(tbs)
        parsed = x509.load_der_x509_certificate(certificate)
        found = [(e.value, e.critical) for e in parsed.extensions]
    except _UNREADABLE as error:
        raise IssuanceFault(f"lint: the certificate does not parse: {error}") from error
    return Candidate(
        version,
        serial,
        (outer_algorithm, algorithm),
        issuer,
        validity,
        subject,
        public_key,
        parsed.not_valid_before_utc,
        parsed.not_valid_after_utc,
        {type(value): value for value, _ in found},
        {type(value) for value, is_critical in found if is_critical},
        expected,
    )


def _value(candidate: Candidate, kind: type[_E]) -> _E | None:
    found = candidate.extensions.get(kind)
    return found if isinstance(found, kind) else None


def version_is_3(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.1: extensions need version 3."""
    return None if c.version == _VERSION_3 else "not version 3"


def serial_is_random_and_fits(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.2: positive, at most 20 octets; and never so short that it looks counted."""
    serial = int.from_bytes(der.contents(c.serial), "big", signed=True)
    if serial > 0 and _LEAST_SERIAL_BITS <= serial.bit_length() <= _MOST_SERIAL_BITS:
        return None
    return f"serial {serial:x} has {serial.bit_length()} bits"


def signature_algorithm_is_the_authoritys(c: Candidate) -> str | None:
    """RFC 5280 4.1.1.2, 4.1.2.3: both identifiers are the one the signing key uses."""
    ours = c.expected.authority.signature_algorithm
    return None if c.signature_algorithms == (ours, ours) else "not the authority's algorithm"


def issuer_is_the_authority(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.4: the authority's own name, to the octet, and not empty."""
    same = c.issuer == c.expected.authority.subject_der
    return None if same and c.issuer != _EMPTY_NAME else "another issuer than the authority"


def dates_are_written_for_their_year(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.5: UTCTime to the end of 2049, GeneralizedTime after, whole seconds, Z."""
    ours = der.validity(c.not_before, c.not_after)
    return None if c.validity == ours else "dates are not encoded as RFC 5280 asks"


def validity_is_inside_the_chain(c: Candidate) -> str | None:
    """RFC 5280 6.1.3 (a)(2); invariant 3: no leaf outlives, or predates, what it chains to."""
    authority = c.expected.authority
    if c.not_before >= c.not_after:
        return "notBefore is not before notAfter"
    if c.not_before < authority.not_before:
        return f"begins before its chain does ({authority.not_before.isoformat()})"
    if c.not_after > authority.not_after:
        return f"outlives its chain ({authority.not_after.isoformat()})"
    return None


def validity_is_short(c: Candidate) -> str | None:
    """The profile's maximum lifetime, backdating included."""
    profile = c.expected.profile
    length = c.not_after - c.not_before
    return None if length <= profile.maximum_lifetime + profile.backdate else f"valid for {length}"


def subject_is_empty(c: Candidate) -> str | None:
    """Profile: identity is in the SAN only, so nothing else can be mistaken for it."""
    return None if c.subject == _EMPTY_NAME else "the subject is not empty"


def public_key_is_the_requested(c: Candidate) -> str | None:
    """Invariant 1: the certified key is the one whose possession was proven."""
    return None if c.public_key == c.expected.public_key else "another public key than requested"


def san_is_one_spiffe_uri(c: Candidate) -> str | None:
    """X509-SVID 2: one URI, the caller's; besides it only the DNS names that policy allows."""
    san = _value(c, x509.SubjectAlternativeName)
    if san is None:
        return "no subject alternative name"
    wanted: list[tuple[type[x509.GeneralName], str]]
    wanted = [(x509.UniformResourceIdentifier, str(c.expected.spiffe_id))]
    wanted += [(x509.DNSName, name) for name in c.expected.dns_names]
    if [(type(name), name.value) for name in san] != wanted:
        return "the names are not exactly the caller's SPIFFE ID and the allowed DNS names"
    return None


def identity_is_a_leaf_of_the_trust_domain(c: Candidate) -> str | None:
    """X509-SVID 3.1: a leaf's ID has a path; and it lies in our trust domain."""
    spiffe_id = c.expected.spiffe_id
    ours = spiffe_id.trust_domain == c.expected.profile.trust_domain
    return None if ours and spiffe_id.is_leaf else "not a leaf ID of the trust domain"


def basic_constraints_say_leaf(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.9; X509-SVID 4.1: present, cA false."""
    value = _value(c, x509.BasicConstraints)
    return None if value is not None and not value.ca else "not cA=false"


def key_usage_is_for_a_leaf(c: Candidate) -> str | None:
    """X509-SVID 4.3: digitalSignature, neither keyCertSign nor cRLSign.

    Besides it keyAgreement for EC (RFC 5480 3) or keyEncipherment for RSA (RFC 5280 4.2.1.3), and
    nothing else.
    """
    usage = _EC_USAGE if _EC_PUBLIC_KEY in c.public_key[:32] else _RSA_USAGE
    return None if _value(c, x509.KeyUsage) == usage else "not the key usage of a leaf"


def extended_key_usage_is_both_ends(c: Candidate) -> str | None:
    """X509-SVID 4.4: serverAuth and clientAuth, nothing else."""
    value = _value(c, x509.ExtendedKeyUsage)
    return None if value is not None and set(value) == _BOTH_ENDS else "not both ends of TLS"


def subject_key_identifier_is_the_keys(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.2; RFC 7093 method 1: the identifier of this very key."""
    ski = _value(c, x509.SubjectKeyIdentifier)
    same = ski is not None and ski.digest == c.expected.subject_key_id
    return None if same else "not the identifier of the certified key"


def authority_key_identifier_is_the_issuers(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.1: equal to the issuer's subject key identifier, so that chains are found."""
    aki = _value(c, x509.AuthorityKeyIdentifier)
    same = aki is not None and aki.key_identifier == c.expected.authority.subject_key_id
    return None if same else "not the issuer's subject key identifier"


def criticality_is_right(c: Candidate) -> str | None:
    """RFC 5280 4.2; X509-SVID 3.1, 4.1, 4.3: what must be critical is, and nothing else.

    The SAN is critical because the subject is empty.
    """
    wrong = (c.critical & _KNOWN) ^ (_CRITICAL & c.extensions.keys())
    return f"wrong for {', '.join(kind.__name__ for kind in wrong)}" if wrong else None


def urls_are_those_that_answer(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.13, 4.2.2.1: CRL, OCSP and issuer if a public listener answers, else none."""
    urls = c.expected.profile.urls_of(c.expected.authority.authority_id)
    if _crl_url(c) != urls.crl:
        return f"the CRL distribution point is not {urls.crl}"
    wanted = [
        (method, x509.UniformResourceIdentifier(url))
        for method, url in ((_OCSP, urls.ocsp), (_CA_ISSUERS, urls.issuer))
        if url is not None
    ]
    access = _value(c, x509.AuthorityInformationAccess) or ()
    same = [(each.access_method, each.access_location) for each in access] == wanted
    return None if same else f"the access URLs are not {urls.ocsp} and {urls.issuer}, in that order"


def _crl_url(c: Candidate) -> str | None:
    points = _value(c, x509.CRLDistributionPoints)
    if points is None:
        return None
    names = points[0].full_name or []
    plain = len(points) == 1 and len(names) == 1 and not points[0].reasons
    return str(names[0].value) if plain and not points[0].crl_issuer else "several, or in parts"


def no_other_extension(c: Candidate) -> str | None:
    """Profile: what is not in it is not issued."""
    if c.extensions.keys() <= _KNOWN:
        return None
    other = [value.oid.dotted_string for k, value in c.extensions.items() if k not in _KNOWN]
    return f"unexpected extensions {', '.join(other)}"


RULES: Final[Sequence[Rule]] = (
    version_is_3,
    serial_is_random_and_fits,
    signature_algorithm_is_the_authoritys,
    issuer_is_the_authority,
    dates_are_written_for_their_year,
    validity_is_inside_the_chain,
    validity_is_short,
    subject_is_empty,
    public_key_is_the_requested,
    san_is_one_spiffe_uri,
    identity_is_a_leaf_of_the_trust_domain,
    basic_constraints_say_leaf,
    key_usage_is_for_a_leaf,
    extended_key_usage_is_both_ends,
    subject_key_identifier_is_the_keys,
    authority_key_identifier_is_the_issuers,
    criticality_is_right,
    urls_are_those_that_answer,
    no_other_extension,
)
