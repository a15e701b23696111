"""Checking what an upstream gives us before it may sign: an authority must prove that it works.

A chain that any verifier would reject must be found here, with the file to change named, and not
by the first proxy (SPIRE's probe, but before activation).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ca.authority import Authority, Signer
from ca.keys import (
    LeafPublicKey,
    PrivateKey,
    PrivateKeySigner,
    check_public_key,
    public_key_der,
)
from meshca.errors import AuthorityUnavailable, RequestRefused
from meshca.spiffe_id import SpiffeId


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """Return the PEM certificates in `path`; raises AuthorityUnavailable when there are none."""
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise AuthorityUnavailable(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, x509.InvalidVersion) as error:
        raise AuthorityUnavailable(f"{path} holds no PEM certificates") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with the certificates in it."""
    try:
        yield
    except AuthorityUnavailable as error:
        raise AuthorityUnavailable(f"{path}: {error}") from error


def certificate_of(
    key: PrivateKey, certificates: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """Return the certificate of `key`, if one of `certificates` is."""
    return _certificate_of(check_public_key(key.public_key()), certificates)


def _certificate_of(
    public_key: LeafPublicKey, certificates: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    wanted = public_key_der(public_key)
    return next((c for c in certificates if spki(c) == wanted), None)


def make_authority(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    key: PrivateKey,
    *,
    trust_domain: str,
    now: datetime,
) -> Authority:
    """Return the authority of `chain` (the signing certificate first) if it may sign now.

    Raises AuthorityUnavailable, naming the certificate and the rule it breaks.
    """
    return make_remote_authority(
        chain,
        roots,
        PrivateKeySigner(key),
        public_key=check_public_key(key.public_key()),
        trust_domain=trust_domain,
        now=now,
    )


def make_remote_authority(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    signer: Signer,
    *,
    public_key: LeafPublicKey,
    trust_domain: str,
    now: datetime,
) -> Authority:
    """Return what `make_authority` does, for a signer that shows only its public key."""
    chain = tuple(c for c in chain if not is_self_signed(c))
    if not chain:
        raise AuthorityUnavailable("the chain holds no intermediate, only roots")
    if _certificate_of(public_key, chain[:1]) is None:
        raise _not_the_keys(public_key, chain)
    root = _verify_upwards(chain, roots)
    for trusted in roots:
        check_root(trusted, trust_domain)
    for depth, certificate in enumerate((*chain, root)):
        check_validity(certificate, now)
        constraints = _check_ca(certificate, trust_domain)
        if constraints.path_length is not None and constraints.path_length < depth:
            raise AuthorityUnavailable(
                f"{describe(certificate)} allows only {constraints.path_length} CAs below it"
            )
    return Authority(chain, root, signer)


def _not_the_keys(
    public_key: LeafPublicKey, chain: Sequence[x509.Certificate]
) -> AuthorityUnavailable:
    owner = _certificate_of(public_key, chain)
    if owner is None:
        return AuthorityUnavailable(f"the key does not belong to {describe(chain[0])}")
    return AuthorityUnavailable(
        f"the chain is in the wrong order: {describe(owner)}, whose key this is, must come first"
    )


def check_root(root: x509.Certificate, trust_domain: str) -> None:
    """Raise AuthorityUnavailable unless `root` may be trusted for `trust_domain`, once valid."""
    spki(root)
    _check_ca(root, trust_domain)


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Return whether `certificate` is signed by its own key: a root."""
    return is_issued_by(certificate, certificate)


def _verify_upwards(
    chain: Sequence[x509.Certificate], roots: Sequence[x509.Certificate]
) -> x509.Certificate:
    """Return the root that `chain` leads to, each signature verified on the way."""
    for certificate, issuer in pairwise(chain):
        if not is_issued_by(certificate, issuer):
            raise AuthorityUnavailable(
                f"{describe(certificate)} is not signed by {describe(issuer)}, the next in chain"
            )
    for root in roots:
        if is_issued_by(chain[-1], root):
            return root
    raise AuthorityUnavailable(f"{describe(chain[-1])} is not signed by any of the roots")


def up_to_root(chain: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return `chain` as far as the first certificate that a root in it signed, without roots.

    An upstream shows bridges after the root that they stand for. Whoever signs there signs under
    that root, and what it is cross-signed by is no part of the authority's chain.
    """
    roots = [c for c in chain if is_self_signed(c)]
    kept = []
    for certificate in (c for c in chain if c not in roots):
        kept.append(certificate)
        if any(is_issued_by(certificate, root) for root in roots):
            break
    return tuple(kept)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether `issuer` has the name and the key that `certificate` is signed with."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Raise AuthorityUnavailable unless `certificate` is valid `now`."""
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begin <= now < end:
        raise AuthorityUnavailable(
            f"{describe(certificate)} is valid from {begin.isoformat()} to {end.isoformat()}; "
            f"it is {now.isoformat()}"
        )


def _check_ca(certificate: x509.Certificate, trust_domain: str) -> x509.BasicConstraints:
    """Return its basic constraints if it may sign certificates of the trust domain."""
    who = describe(certificate)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except (
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
        ValueError,
    ) as error:
        raise AuthorityUnavailable(f"{who} is not a CA certificate: {error}") from error
    if not constraints.ca or not usage.key_cert_sign:
        raise AuthorityUnavailable(f"{who} is not a CA certificate: it may not sign certificates")
    _check_trust_domain(certificate, trust_domain)
    return constraints


def _check_trust_domain(certificate: x509.Certificate, trust_domain: str) -> None:
    """X509-SVID 3.2: a signing certificate's ID, where it has one, is ours and has no path."""
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for uri in san.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith("spiffe:") and uri != str(SpiffeId(trust_domain, "")):
            raise AuthorityUnavailable(
                f"{describe(certificate)} is for {uri}, not for trust domain {trust_domain}"
            )


def spki(certificate: x509.Certificate) -> bytes:
    """Return its DER public key; raises AuthorityUnavailable for one of a kind that we refuse."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AuthorityUnavailable(f"{describe(certificate)}: its key cannot be read") from error
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise AuthorityUnavailable(f"{describe(certificate)} has a key that is not ECDSA or RSA")
    try:
        return public_key_der(check_public_key(key))
    except RequestRefused as error:
        raise AuthorityUnavailable(f"{describe(certificate)}: {error}") from error


def describe(certificate: x509.Certificate) -> str:
    """Return what to call `certificate` in a message."""
    return f"certificate {certificate.subject.rfc4514_string()!r}"
