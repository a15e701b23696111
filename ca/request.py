"""A request for a certificate: a public key and proof that the caller holds its private half.

Nothing else is taken from a CSR. What it asks for is still looked at: a CSR that wants to be a CA,
carries several URIs, or a URI that is not the caller's shows a confused or hostile client, and a
clear refusal serves better than a certificate that does not say what was asked.
"""

import binascii
import re
from dataclasses import dataclass, field
from datetime import timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from ca.keys import (
    LeafPublicKey,
    PrivateKey,
    check_public_key,
    generate_key,
    private_key_pem,
    public_key_der,
)
from meshca.errors import RequestRefused
from meshca.spiffe_id import SpiffeId

MAXIMUM_CSR_BYTES = 32 * 1024
_UNREADABLE = (
    ValueError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_PEM_BEGIN = b"-----BEGIN"
_PEM = re.compile(
    rb"\s*-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)"
    rb"-----END (?:NEW )?CERTIFICATE REQUEST-----\s*"
)
_DIGESTS = {
    digest.name: (digest, ec.ECDSA(digest))
    for digest in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512())
}


@dataclass(frozen=True, slots=True)
class IssuanceRequest:
    """What to certify: a SubjectPublicKeyInfo, whether it is EC, a lifetime if one is asked."""

    public_key: bytes
    is_ec: bool
    lifetime: timedelta | None = None


@dataclass(frozen=True, slots=True)
class GeneratedKey:
    """A key made here for a proxy: it lives in memory only, and its repr does not show it."""

    private_pem: bytes = field(repr=False)
    request: IssuanceRequest


def generate() -> GeneratedKey:
    """Return a new P-256 key pair and the request to certify it."""
    key: PrivateKey = generate_key()
    spki = public_key_der(check_public_key(key.public_key()))
    return GeneratedKey(private_key_pem(key), IssuanceRequest(spki, is_ec=True))


def from_csr(csr: bytes, caller: SpiffeId, lifetime: timedelta | None = None) -> IssuanceRequest:
    """Return the request in a PEM or DER PKCS#10 CSR made by `caller`.

    Raises RequestRefused for malformed or oversized input, a bad signature, a key we do not
    certify, and for asking for a CA, several URIs, or another identity.
    """
    parsed = _parse(csr)
    key = _proven_key(parsed)
    _check_extensions(parsed, caller)
    return IssuanceRequest(
        public_key_der(key), isinstance(key, ec.EllipticCurvePublicKey), lifetime
    )


def proven_key(csr: bytes) -> LeafPublicKey:
    """Return the public key of a CSR whose maker has the private half; the rest is not looked at.

    Raises RequestRefused as `from_csr` does. For CAs, whose requests may say that they are one.
    """
    return _proven_key(_parse(csr))


def _proven_key(csr: x509.CertificateSigningRequest) -> LeafPublicKey:
    key = _public_key(csr)
    _check_proof_of_possession(csr, key)
    return key


def _parse(csr: bytes) -> x509.CertificateSigningRequest:
    if len(csr) > MAXIMUM_CSR_BYTES:
        raise RequestRefused("csr_too_large", f"the CSR is larger than {MAXIMUM_CSR_BYTES} bytes")
    try:
        return x509.load_der_x509_csr(_der(csr) if _PEM_BEGIN in csr else csr)
    except _UNREADABLE as error:
        raise RequestRefused("csr_malformed", "the CSR is not PKCS#10 in PEM or DER") from error


def _der(pem: bytes) -> bytes:
    """Return what one strict PEM block holds (RFC 7468 3); raises ValueError for anything else."""
    block = _PEM.fullmatch(pem)
    if block is None:
        raise ValueError("not one PEM block of a certificate request and nothing else")
    return binascii.a2b_base64(block[1].translate(None, b" \t\r\n"), strict_mode=True)


def _public_key(csr: x509.CertificateSigningRequest) -> LeafPublicKey:
    try:
        return check_public_key(csr.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RequestRefused("weak_key", "the CSR's public key is malformed") from error


def _check_proof_of_possession(csr: x509.CertificateSigningRequest, key: LeafPublicKey) -> None:
    """Verify the CSR's signature (RFC 2986 4.2) with its key, which is loaded only once."""
    try:
        _verify(csr, key)
    except InvalidSignature as error:
        raise RequestRefused(
            "csr_signature", "the CSR's signature does not verify with its key"
        ) from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise RequestRefused("csr_signature", "the CSR's signature cannot be checked") from error


def _verify(csr: x509.CertificateSigningRequest, key: LeafPublicKey) -> None:
    named = csr.signature_hash_algorithm
    if named is None or named.name not in _DIGESTS:
        raise RequestRefused("csr_signature", "the CSR is not signed with SHA-256, 384 or 512")
    digest, ecdsa = _DIGESTS[named.name]
    signature, message = csr.signature, csr.tbs_certrequest_bytes
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, message, ecdsa)
        return
    scheme = csr.signature_algorithm_parameters
    if not isinstance(scheme, padding.PKCS1v15 | padding.PSS):
        raise RequestRefused("csr_signature", "the CSR is not signed as an RSA key signs")
    key.verify(signature, message, scheme, digest)


def _check_extensions(csr: x509.CertificateSigningRequest, caller: SpiffeId) -> None:
    try:
        extensions = csr.extensions
    except _UNREADABLE as error:
        raise RequestRefused("csr_malformed", "the CSR's extensions do not parse") from error
    for extension in extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise RequestRefused("csr_ca", "the CSR asks for a CA certificate")
        if isinstance(extension.value, x509.SubjectAlternativeName):
            uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
            _check_uris(uris, caller)


def _check_uris(uris: list[str], caller: SpiffeId) -> None:
    if len(uris) > 1:
        raise RequestRefused("csr_several_uris", f"the CSR names {len(uris)} URIs; one is allowed")
    if uris and uris[0] != str(caller):
        raise RequestRefused(
            "csr_foreign_uri", f"the CSR asks for another identity than the caller's {caller}"
        )
