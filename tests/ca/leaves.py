"""Leaves as CertificateBuilder makes them, of which a test replaces what is to be wrong.

Where the builder refuses to make one as broken as we want it, an element of the DER is replaced.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from ca import der
from ca.keys import check_public_key, public_key_der, subject_key_id
from ca.lint import Expectation
from tests.builders import NOW, ORDERS, make_key, make_pki, make_profile
from tests.key_usage import key_usage

PKI = make_pki()
AUTHORITY = PKI.authority()
SERIAL = 0x8F00_0000_0000_0000_0000_0000_0000_0001
URL = "http://ca.example.org"
CRL = f"{URL}/crl/{AUTHORITY.authority_id}.crl"
OCSP = f"{URL}/ocsp"
ISSUER = f"{URL}/ca/{AUTHORITY.authority_id}.der"
BOTH = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def leaf_usage(**changes: bool) -> x509.KeyUsage:
    """Return the key usage of an EC leaf, but for `changes`."""
    return key_usage(**{"digital_signature": True, "key_agreement": True, **changes})


def san(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def uri(text: str = str(ORDERS)) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def aki(digest: bytes | None = AUTHORITY.subject_key_id) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(digest, None, None)


def crl_points(*urls: str, **point: Any) -> x509.CRLDistributionPoints:
    values = {"relative_name": None, "reasons": None, "crl_issuer": None, **point}
    return x509.CRLDistributionPoints(
        [x509.DistributionPoint(full_name=[uri(url)], **values) for url in urls]
    )


def access(
    *locations: x509.GeneralName, ocsp: str | None = OCSP, issuer: str | None = ISSUER
) -> x509.AuthorityInformationAccess:
    """Return the OCSP responder and the CA issuers, and `locations` as more of these."""
    known = AuthorityInformationAccessOID
    said: list[tuple[x509.ObjectIdentifier, x509.GeneralName]] = []
    said += [(known.OCSP, uri(ocsp))] if ocsp else []
    said += [(known.CA_ISSUERS, uri(issuer))] if issuer else []
    said += [(known.CA_ISSUERS, location) for location in locations]
    return x509.AuthorityInformationAccess([x509.AccessDescription(*each) for each in said])


def certified(kind: str = "p256") -> bytes:
    return public_key_der(check_public_key(make_key(kind).public_key()))


def expected(kind: str = "p256", **changes: Any) -> Expectation:
    key = certified(kind)
    values = {
        "spiffe_id": ORDERS,
        "dns_names": (),
        "public_key": key,
        "subject_key_id": subject_key_id(key),
        "authority": AUTHORITY,
        "profile": make_profile(),
    }
    return Expectation(**{**values, **changes})


Extensions = dict[str, tuple[x509.ExtensionType, bool] | None]


def good_extensions(kind: str = "p256") -> Extensions:
    return {
        "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
        "usage": (leaf_usage(), True),
        "extended": (x509.ExtendedKeyUsage(BOTH), False),
        "ski": (x509.SubjectKeyIdentifier(subject_key_id(certified(kind))), False),
        "san": (san(uri()), True),
        "aki": (aki(), False),
    }


@dataclass(frozen=True)
class Leaf:
    """A good leaf; replace what is to be wrong."""

    serial: int = SERIAL
    issuer: x509.Name = AUTHORITY.certificate.subject
    subject: x509.Name = field(default_factory=lambda: x509.Name([]))
    not_before: datetime = NOW
    not_after: datetime = NOW + timedelta(hours=1)
    kind: str = "p256"
    signed_with: str = "p256"
    extensions: Extensions = field(default_factory=dict)

    def der(self) -> bytes:
        """Return it as CertificateBuilder makes it, signed by a throwaway key."""
        builder = (
            x509.CertificateBuilder()
            .serial_number(self.serial)
            .issuer_name(self.issuer)
            .subject_name(self.subject)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .public_key(check_public_key(make_key(self.kind).public_key()))
        )
        for extension in {**good_extensions(self.kind), **self.extensions}.values():
            if extension is not None:
                builder = builder.add_extension(extension[0], critical=extension[1])
        digest = hashes.SHA384() if self.signed_with == "p384" else hashes.SHA256()
        return builder.sign(make_key(self.signed_with, 9), digest).public_bytes(Encoding.DER)


def with_part(certificate: bytes, number: int, part: bytes) -> bytes:
    """Return `certificate` with part `number` of its TBSCertificate replaced."""
    tbs, *rest = der.items(certificate)
    parts = der.items(tbs)
    parts[number] = part
    return der.encode(0x30, der.encode(0x30, *parts), *rest)


def validity(*times: bytes) -> bytes:
    return der.encode(0x30, *times)


def extension(**changes: tuple[x509.ExtensionType, bool] | None) -> bytes:
    return Leaf(extensions=changes).der()
