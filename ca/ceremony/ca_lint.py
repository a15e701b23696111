"""Lint of CA certificates: every rule that a root or an intermediate of a ceremony must keep.

One function a rule, each citing its clause, each returning what is wrong or None; `RULES` is the
whole list. They run twice: before the offline key is touched, over a stand-in's signature, and on
what that key signed, then with `signature_verifies`. They compare a certificate with the
`Expectation` that the plan became, never with what it was built from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from ca.ca_certificate import KEY_USAGE, signing_hash
from ca.ceremony import linting
from ca.keys import LeafPublicKey, check_public_key, public_key_der, subject_key_id
from meshca.spiffe_id import SpiffeId

_LEAST_SERIAL_BITS: Final = 64
_MOST_SERIAL_BITS: Final = 159
_CRITICAL: Final = {x509.BasicConstraints, x509.KeyUsage, x509.NameConstraints}
_KNOWN: Final = _CRITICAL | {
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
    x509.SubjectAlternativeName,
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the certificate must say; `issuer` is None for a root, which signs itself."""

    trust_domain: str
    subject: x509.Name
    public_key: LeafPublicKey
    not_before: datetime
    not_after: datetime
    path_length: int
    constrained: bool
    issuer: x509.Certificate | None

    @property
    def signing_key(self) -> LeafPublicKey:
        """Return the key that the signature must verify with."""
        if self.issuer is None:
            return self.public_key
        return check_public_key(self.issuer.public_key())


Candidate = linting.Candidate[x509.Certificate, Expectation]


def algorithm_of(key: LeafPublicKey) -> x509.ObjectIdentifier:
    """Return the one algorithm that we let `key` sign with."""
    if isinstance(key, rsa.RSAPublicKey):
        return SignatureAlgorithmOID.RSA_WITH_SHA256
    if signing_hash(key).name == "sha384":
        return SignatureAlgorithmOID.ECDSA_WITH_SHA384
    return SignatureAlgorithmOID.ECDSA_WITH_SHA256


def version_is_3(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.1: extensions need version 3."""
    return None if c.made.version is x509.Version.v3 else "not version 3"


def serial_is_random_and_fits(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.2: positive, at most 20 octets; CA/B Forum BR 7.1: 64 random bits."""
    bits = c.made.serial_number.bit_length()
    fits = c.made.serial_number > 0 and _LEAST_SERIAL_BITS <= bits <= _MOST_SERIAL_BITS
    return None if fits else f"a serial of {bits} bits"


def signature_algorithm_is_the_signing_keys(c: Candidate) -> str | None:
    """RFC 5280 4.1.1.2; RFC 5758 3.2: ECDSA with the curve's hash, RSA with SHA-256."""
    wanted = algorithm_of(c.expected.signing_key)
    found = c.made.signature_algorithm_oid
    return None if found == wanted else f"signed with {found.dotted_string}"


def issuer_is_the_signers_name(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.4: the issuer's subject, to the octet."""
    issuer = c.expected.issuer
    wanted = c.expected.subject if issuer is None else issuer.subject
    same = c.made.issuer.public_bytes() == wanted.public_bytes()
    return None if same else "another issuer"


def subject_is_the_planned(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.6: a CA has a name; the plan's, to the octet."""
    planned = c.expected.subject.public_bytes()
    same = c.made.subject.public_bytes() == planned and len(c.expected.subject) > 0
    return None if same else "another subject than planned, or none"


def subject_is_not_the_issuers(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.9: a self-issued intermediate would not count in path lengths."""
    issuer = c.expected.issuer
    same = issuer is not None and c.made.subject == issuer.subject
    return "the intermediate has its issuer's name" if same else None


def validity_is_the_planned(c: Candidate) -> str | None:
    """RFC 5280 4.1.2.5: whole seconds, in order, as planned."""
    begin, end = c.made.not_valid_before_utc, c.made.not_valid_after_utc
    same = (begin, end) == (c.expected.not_before, c.expected.not_after) and begin < end
    return None if same else f"valid from {begin.isoformat()} to {end.isoformat()}"


def validity_is_inside_the_issuers(c: Candidate) -> str | None:
    """RFC 5280 6.1.3 (a)(2); invariant 3: an intermediate neither predates nor outlives its CA."""
    issuer = c.expected.issuer
    if issuer is None:
        return None
    if c.made.not_valid_before_utc < issuer.not_valid_before_utc:
        return f"begins before its issuer ({issuer.not_valid_before_utc.isoformat()})"
    if c.made.not_valid_after_utc > issuer.not_valid_after_utc:
        return f"outlives its issuer ({issuer.not_valid_after_utc.isoformat()})"
    return None


def public_key_is_the_requested(c: Candidate) -> str | None:
    """Invariant 1: the certified key is the one that was made or whose possession was proven."""
    found = check_public_key(c.made.public_key())
    same = public_key_der(found) == public_key_der(c.expected.public_key)
    return None if same else "another public key"


def basic_constraints_are_a_cas(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.9: present, cA true, the planned path length."""
    value = c.value(x509.BasicConstraints)
    if value is None or not value.ca:
        return "not cA=true"
    planned = c.expected.path_length
    return None if value.path_length == planned else f"path length {value.path_length}"


def path_length_is_below_the_issuers(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.9, 6.1.4 (l), (m): each CA below allows fewer CAs below itself."""
    if c.expected.issuer is None:
        return None
    limit = c.expected.issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    if limit.path_length is None or c.expected.path_length < limit.path_length:
        return None
    return f"path length {c.expected.path_length} under an issuer of {limit.path_length}"


def key_usage_is_a_cas(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.3; X509-SVID 4.3: keyCertSign and cRLSign, nothing else."""
    return None if c.value(x509.KeyUsage) == KEY_USAGE else "not the key usage of a CA"


def san_is_the_trust_domain(c: Candidate) -> str | None:
    """X509-SVID 2, 3.2: one URI, the trust domain's ID without a path, and no other name."""
    san = c.value(x509.SubjectAlternativeName)
    wanted = str(SpiffeId(c.expected.trust_domain, ""))
    names = [] if san is None else [(type(name), name.value) for name in san]
    same = names == [(x509.UniformResourceIdentifier, wanted)]
    return None if same else f"the names are not exactly {wanted}"


def subject_key_identifier_is_the_keys(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.2; RFC 7093 method 1: the identifier of this very key."""
    ski = c.value(x509.SubjectKeyIdentifier)
    wanted = subject_key_id(public_key_der(c.expected.public_key))
    return None if ski is not None and ski.digest == wanted else "not the identifier of the key"


def authority_key_identifier_is_the_issuers(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.1: the issuer's subject key identifier; a root may leave it out."""
    aki = c.value(x509.AuthorityKeyIdentifier)
    issuer = c.expected.issuer
    if issuer is None:
        return None if aki is None else "a root with an authority key identifier"
    ski = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    same = aki is not None and aki.key_identifier == ski.digest
    return None if same else "not the issuer's subject key identifier"


def name_constraints_are_the_planned(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.10: none, or the trust domain as the only host of URIs; on a root only."""
    found = c.value(x509.NameConstraints)
    if not c.expected.constrained:
        return None if found is None else "name constraints that are not planned"
    return None if found == name_constraints(c.expected.trust_domain) else "not those planned"


def criticality_is_right(c: Candidate) -> str | None:
    """RFC 5280 4.2.1.3, 4.2.1.9, 4.2.1.10: these are critical; identifiers and names are not."""
    wrong = [k.__name__ for k, e in c.extensions.items() if e.critical != (k in _CRITICAL)]
    return f"wrong for {', '.join(wrong)}" if wrong else None


def no_other_extension(c: Candidate) -> str | None:
    """Profile: what is not in it is not issued."""
    other = [e.oid.dotted_string for k, e in c.extensions.items() if k not in _KNOWN]
    return f"unexpected extensions {', '.join(other)}" if other else None


def signature_verifies(c: Candidate) -> str | None:
    """RFC 5280 6.1.3 (a)(1): with the issuer's key, or for a root with its own."""
    try:
        c.made.verify_directly_issued_by(c.expected.issuer or c.made)
    except (InvalidSignature, ValueError, TypeError):
        return "the signature does not verify"
    return None


def name_constraints(trust_domain: str) -> x509.NameConstraints:
    """Return the constraint to URIs whose host is the trust domain."""
    host = x509.UniformResourceIdentifier(trust_domain)
    return x509.NameConstraints(permitted_subtrees=[host], excluded_subtrees=None)


RULES: Final[Sequence[Callable[[Candidate], str | None]]] = (
    version_is_3,
    serial_is_random_and_fits,
    signature_algorithm_is_the_signing_keys,
    issuer_is_the_signers_name,
    subject_is_the_planned,
    subject_is_not_the_issuers,
    validity_is_the_planned,
    validity_is_inside_the_issuers,
    public_key_is_the_requested,
    basic_constraints_are_a_cas,
    path_length_is_below_the_issuers,
    key_usage_is_a_cas,
    san_is_the_trust_domain,
    subject_key_identifier_is_the_keys,
    authority_key_identifier_is_the_issuers,
    name_constraints_are_the_planned,
    criticality_is_right,
    no_other_extension,
)
LINT: Final = linting.Lint(
    what="the CA certificate",
    octets=lambda certificate: certificate.tbs_certificate_bytes,
    rules=RULES,
    signature_verifies=signature_verifies,
)
