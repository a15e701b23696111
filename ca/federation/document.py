"""Reading a bundle that another trust domain published (SPIFFE Trust Domain and Bundle 4).

Pure, and strict where leniency would widen trust: a document that breaks a rule is refused whole,
and what was held before stays. What the standard says to ignore is ignored: unknown parameters,
and keys of unknown type or use, without `x5c`, or meant for something else than X.509.

A bundle may be empty. The standard means it (4.1.3): every SVID of that trust domain is invalid.

| reason | the document |
|---|---|
| too_large | is longer than MAXIMUM_BYTES or has more than MAXIMUM_ROOTS roots |
| malformed | is not JSON, or a parameter has the wrong type; a certificate that cannot be read |
| not_a_ca | has a certificate that may not sign certificates |
| weak_key | has a root with a key that nobody should trust |
| foreign_root | has a root that names another trust domain than the one it is for |
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Any, Final

import orjson
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from meshca.errors import RequestRefused

MAXIMUM_BYTES: Final = 256 * 1024
MAXIMUM_ROOTS: Final = 64
MAXIMUM_SEQUENCE: Final = 2**63 - 1
_KEY_TYPES: Final = ("EC", "RSA")
_LEAST_RSA_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class ForeignBundle:
    """What another trust domain says of itself; no roots means that it trusts nothing of its own.

    `sequence` and `refresh_hint` (seconds) are None when the document does not say.
    """

    trust_domain: str
    roots: tuple[x509.Certificate, ...]
    sequence: int | None = None
    refresh_hint: int | None = None

    @property
    def fingerprints(self) -> frozenset[bytes]:
        """Return the roots' DER, to compare contents: their order means nothing."""
        return frozenset(root.public_bytes(Encoding.DER) for root in self.roots)


def read_bundle(document: bytes, trust_domain: str) -> ForeignBundle:
    """Return the bundle that `document` (SPIFFE JWKS) holds for `trust_domain`.

    Raises RequestRefused; its reason is one of those above.
    """
    if len(document) > MAXIMUM_BYTES:
        raise RequestRefused("too_large", f"the bundle is larger than {MAXIMUM_BYTES} bytes")
    try:
        values: Any = orjson.loads(document)
    except orjson.JSONDecodeError as error:
        raise RequestRefused("malformed", "the bundle is not JSON") from error
    if not isinstance(values, dict) or not isinstance(values.get("keys"), list):
        raise RequestRefused("malformed", "the bundle is not a JWKS: it has no list `keys`")
    roots = [root for key in values["keys"] if (root := _root(key)) is not None]
    return ForeignBundle(
        trust_domain,
        check_roots(roots, trust_domain),
        _whole_number(values, "spiffe_sequence"),
        _whole_number(values, "spiffe_refresh_hint"),
    )


def read_seed(text: bytes, trust_domain: str) -> ForeignBundle:
    """Return the bundle in `text`, SPIFFE JWKS or PEM certificates, with at least one root.

    Raises RequestRefused.
    """
    if not text.lstrip().startswith(b"-----BEGIN"):
        bundle = read_bundle(text, trust_domain)
    elif len(text) > MAXIMUM_BYTES:
        raise RequestRefused("too_large", f"the bundle is larger than {MAXIMUM_BYTES} bytes")
    else:
        bundle = ForeignBundle(trust_domain, check_roots(read_pem(text), trust_domain))
    if not bundle.roots:
        raise RequestRefused("malformed", "the bundle holds no root")
    return bundle


def read_pem(text: bytes) -> list[x509.Certificate]:
    """Return the PEM certificates in `text`; raises RequestRefused when it is something else."""
    try:
        return x509.load_pem_x509_certificates(text)
    except (ValueError, x509.InvalidVersion) as error:
        raise RequestRefused("malformed", "not PEM certificates") from error


def _whole_number(values: dict[str, Any], name: str) -> int | None:
    value = values.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= MAXIMUM_SEQUENCE:
        raise RequestRefused("malformed", f"{name} is not a whole number of 64 bits")
    return value


def _root(key: Any) -> x509.Certificate | None:
    """Return the certificate of a JWK, or None when the standard says to ignore it."""
    if not isinstance(key, dict):
        raise RequestRefused("malformed", "a key of the bundle is not an object")
    chain = key.get("x5c")
    if key.get("use") != "x509-svid" or key.get("kty") not in _KEY_TYPES or not chain:
        return None  # B-7, B-11, B-13, X-26
    try:
        der = base64.b64decode(chain[0], validate=True)  # the first is all that counts
        return x509.load_der_x509_certificate(der)
    except (TypeError, KeyError, binascii.Error, ValueError, x509.InvalidVersion) as error:
        raise RequestRefused("malformed", "a certificate of the bundle cannot be read") from error


def check_roots(roots: list[x509.Certificate], trust_domain: str) -> tuple[x509.Certificate, ...]:
    """Return `roots`, each once, if every one may speak for `trust_domain`.

    Raises RequestRefused.
    """
    unique = tuple({root.public_bytes(Encoding.DER): root for root in roots}.values())
    if len(unique) > MAXIMUM_ROOTS:
        raise RequestRefused("too_large", f"the bundle has more than {MAXIMUM_ROOTS} roots")
    for root in unique:
        try:
            _check_authority(root)
            _check_key(root)
            _check_trust_domain(root, trust_domain)
        except (x509.DuplicateExtension, UnsupportedAlgorithm, ValueError) as error:
            raise RequestRefused(
                "malformed", "a certificate of the bundle cannot be read"
            ) from error
    return unique


def _check_authority(root: x509.Certificate) -> None:
    """X509-SVID 6.1: what stands in a bundle is a CA certificate."""
    try:
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound as error:
        raise RequestRefused("not_a_ca", f"{_describe(root)} is not a CA") from error
    if not constraints.ca:
        raise RequestRefused("not_a_ca", f"{_describe(root)} is not a CA")


def _check_key(root: x509.Certificate) -> None:
    key = root.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
        return
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.key_size < 256:
        raise RequestRefused("weak_key", f"{_describe(root)} has a key that is too weak")


def _check_trust_domain(root: x509.Certificate, trust_domain: str) -> None:
    """X509-SVID 3.2: a signing certificate's ID, where it has one, is its trust domain's."""
    try:
        names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        if uri.startswith("spiffe:") and uri != f"spiffe://{trust_domain}":
            raise RequestRefused(
                "foreign_root", f"{_describe(root)} is of {uri}, not of trust domain {trust_domain}"
            )


def _describe(root: x509.Certificate) -> str:
    return f"certificate {root.subject.rfc4514_string()[:200]!r}"
