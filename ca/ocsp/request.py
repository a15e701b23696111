"""What an OCSP request asks (RFC 6960 4.1): which certificates, and the nonce to give back.

`cryptography` parses everything. It takes requests of one certificate only: one of several is taken
apart and each part parsed as a request of its own. Signatures and requestor names are not looked
at: everybody gets the same answers.
"""

from hashlib import sha1, sha256
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import ocsp

from ca import der
from ca.keys import public_key_der
from meshca.errors import RequestRefused

MAXIMUM_BYTES: Final = 4096
MAXIMUM_SINGLES: Final = 16
MAXIMUM_NONCE_BYTES: Final = 32
"""RFC 8954 2.1; a nonce that is longer, or empty, makes a request malformed."""
_MOST_SERIAL_BITS: Final = 159
_SEQUENCE: Final = 0x30
_UNREADABLE: Final = (ValueError, x509.DuplicateExtension, NotImplementedError)


IssuerId = tuple[str, bytes, bytes]
"""How OCSP names an issuer: a hash algorithm, the hash of its name, and that of its key."""


class CertId(NamedTuple):
    """A certificate as OCSP names it; `algorithm` is sha1, sha256, or one that names none here."""

    algorithm: str
    name_hash: bytes
    key_hash: bytes
    serial: int

    @property
    def issuer(self) -> IssuerId:
        """Return how its issuer is named."""
        return self[:3]


class OcspRequest(NamedTuple):
    """The certificates asked for, in their order, and the nonce if there is one."""

    singles: tuple[CertId, ...]
    nonce: bytes | None


def parse_request(octets: bytes) -> OcspRequest:
    """Return what `octets` ask.

    Raises RequestRefused for anything else than a whole request within our bounds: 4 KiB, sixteen
    certificates, a nonce of 1 to 32 octets, no critical extension that we do not know.
    """
    if len(octets) > MAXIMUM_BYTES:
        raise RequestRefused("malformed", f"the request is larger than {MAXIMUM_BYTES} bytes")
    try:
        requests = _parse(octets)
        nonce = _nonce(requests[0].extensions)
        return OcspRequest(tuple(_cert_id(request) for request in requests), nonce)
    except _UNREADABLE as error:
        raise RequestRefused("malformed", f"not an OCSP request: {error}") from error


def issuer_ids(issuer: x509.Certificate) -> tuple[IssuerId, IssuerId]:
    """Return how requests name `issuer`: by SHA-1 and by SHA-256."""
    name = issuer.subject.public_bytes()
    # An authority's key is one that `check_public_key` accepted.
    key = der.public_key_bits(public_key_der(issuer.public_key()))  # type: ignore[arg-type]
    return (
        ("sha1", sha1(name).digest(), sha1(key).digest()),  # noqa: S324  # RFC 5019 2.1.1
        ("sha256", sha256(name).digest(), sha256(key).digest()),
    )


def _parse(octets: bytes) -> list[ocsp.OCSPRequest]:
    try:
        return [ocsp.load_der_ocsp_request(octets)]
    except NotImplementedError:  # several certificates, or none
        return [ocsp.load_der_ocsp_request(each) for each in _taken_apart(octets)]


def _taken_apart(octets: bytes) -> list[bytes]:
    """Return a request for each certificate that `octets` ask for; all else stays in each."""
    parts = der.items(der.items(octets)[0])
    at = next(number for number, part in enumerate(parts) if part[0] == _SEQUENCE)
    singles = der.items(parts[at])
    if not 1 <= len(singles) <= MAXIMUM_SINGLES:
        raise ValueError(f"it asks for {len(singles)} certificates")
    return [_with_list(parts, at, single) for single in singles]


def _with_list(parts: list[bytes], at: int, single: bytes) -> bytes:
    alone = der.encode(_SEQUENCE, single)
    return der.encode(_SEQUENCE, der.encode(_SEQUENCE, *parts[:at], alone, *parts[at + 1 :]))


def _nonce(extensions: x509.Extensions) -> bytes | None:
    nonce = None
    for extension in extensions:
        if isinstance(extension.value, x509.OCSPNonce):
            nonce = extension.value.nonce
            if not 1 <= len(nonce) <= MAXIMUM_NONCE_BYTES:
                raise ValueError(f"a nonce of {len(nonce)} octets")
        elif extension.critical and isinstance(extension.value, x509.UnrecognizedExtension):
            raise ValueError(f"critical extension {extension.oid.dotted_string}")
    return nonce


def _cert_id(request: ocsp.OCSPRequest) -> CertId:
    serial = request.serial_number
    if serial <= 0 or serial.bit_length() > _MOST_SERIAL_BITS:
        raise ValueError("no certificate has such a serial (RFC 5280 4.1.2.2)")
    try:
        algorithm = request.hash_algorithm.name
    except UnsupportedAlgorithm:
        algorithm = ""
    return CertId(algorithm, request.issuer_name_hash, request.issuer_key_hash, serial)
