"""The TBSCertificate of a leaf, written as DER from a template (docs/adr/0001-der-template.md).

The bytes are those that `cryptography`'s CertificateBuilder would make, at a third of the cost (a
test asserts it for every variant), and they exist before any key is used: lint reads them first.
"""

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from ca import der

_VERSION_3 = bytes.fromhex("a003020102")
_EMPTY_NAME = bytes.fromhex("3000")
_CRITICAL = bytes.fromhex("0101ff")
_BASIC_CONSTRAINTS = bytes.fromhex("300c0603551d130101ff04023000")
# digitalSignature, and keyAgreement for EC or keyEncipherment for RSA (RFC 5280 4.2.1.3).
_KEY_USAGE_EC = bytes.fromhex("300e0603551d0f0101ff040403020388")
_KEY_USAGE_RSA = bytes.fromhex("300e0603551d0f0101ff0404030205a0")
# serverAuth and clientAuth (X509-SVID 4.4).
_EXTENDED_KEY_USAGE = bytes.fromhex(
    "301d0603551d250416301406082b0601050507030106082b06010505070302"
)
_EXTENSIONS_EC = _BASIC_CONSTRAINTS + _KEY_USAGE_EC + _EXTENDED_KEY_USAGE
_EXTENSIONS_RSA = _BASIC_CONSTRAINTS + _KEY_USAGE_RSA + _EXTENDED_KEY_USAGE
_SUBJECT_KEY_ID = bytes.fromhex("301d0603551d0e04160414")  # and the 20 octets
_AUTHORITY_KEY_ID = bytes.fromhex("0603551d23")
_SUBJECT_ALTERNATIVE_NAME = bytes.fromhex("0603551d11")
_CRL_DISTRIBUTION_POINTS = bytes.fromhex("0603551d1f")
_AUTHORITY_INFORMATION_ACCESS = bytes.fromhex("06082b06010505070101")
_OCSP = bytes.fromhex("06082b06010505073001")
_CA_ISSUERS = bytes.fromhex("06082b06010505073002")
_URI, _DNS = 0x86, 0x82


class LeafFields(NamedTuple):
    """Everything a leaf says; times are whole seconds in UTC."""

    serial: int
    signature_algorithm: bytes
    issuer: bytes
    not_before: datetime
    not_after: datetime
    public_key: bytes
    is_ec: bool
    subject_key_id: bytes  # 20 octets
    authority_key_id: bytes
    uri: str
    dns_names: tuple[str, ...] = ()
    crl_url: str | None = None
    ocsp_url: str | None = None
    issuer_url: str | None = None


def encode(fields: LeafFields) -> bytes:
    """Return the DER TBSCertificate that `fields` describe (RFC 5280 4.1)."""
    extensions = der.encode(
        0x30,
        _EXTENSIONS_EC if fields.is_ec else _EXTENSIONS_RSA,
        _SUBJECT_KEY_ID,
        fields.subject_key_id,
        _alternative_names(fields.uri, fields.dns_names),
        _issuer_extensions(
            fields.authority_key_id, fields.crl_url, fields.ocsp_url, fields.issuer_url
        ),
    )
    return der.encode(
        0x30,
        _VERSION_3,
        der.integer(fields.serial),
        fields.signature_algorithm,
        fields.issuer,
        der.validity(fields.not_before, fields.not_after),
        _EMPTY_NAME,
        fields.public_key,
        der.encode(0xA3, extensions),
    )


def assemble(tbs: bytes, signature_algorithm: bytes, signature: bytes) -> bytes:
    """Return the DER Certificate of a TBSCertificate and its signature."""
    return der.encode(0x30, tbs, signature_algorithm, der.bit_string(signature))


def _extension(oid: bytes, value: bytes, critical: bytes = b"") -> bytes:
    return der.encode(0x30, oid, critical, der.encode(0x04, value))


@lru_cache(maxsize=4096)  # a workload's next certificate, and its siblings', name the same
def _alternative_names(uri: str, dns_names: tuple[str, ...]) -> bytes:
    names = [der.encode(_DNS, name.encode("ascii")) for name in dns_names]
    value = der.encode(0x30, der.encode(_URI, uri.encode("ascii")), *names)
    return _extension(_SUBJECT_ALTERNATIVE_NAME, value, _CRITICAL)


@lru_cache(maxsize=16)
def _issuer_extensions(
    key_id: bytes, crl_url: str | None, ocsp_url: str | None, issuer_url: str | None
) -> bytes:
    """Return the extensions that every leaf of one authority shares."""
    parts = [_extension(_AUTHORITY_KEY_ID, der.encode(0x30, der.encode(0x80, key_id)))]
    if crl_url is not None:
        name = der.encode(_URI, crl_url.encode("ascii"))
        point = der.encode(0x30, der.encode(0xA0, der.encode(0xA0, name)))
        parts.append(_extension(_CRL_DISTRIBUTION_POINTS, der.encode(0x30, point)))
    access = [
        der.encode(0x30, method, der.encode(_URI, url.encode("ascii")))
        for method, url in ((_OCSP, ocsp_url), (_CA_ISSUERS, issuer_url))
        if url is not None
    ]
    if access:
        parts.append(_extension(_AUTHORITY_INFORMATION_ACCESS, der.encode(0x30, *access)))
    return b"".join(parts)
