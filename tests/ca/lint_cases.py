"""Good and bad leaves for lint, by the rule that a bad one breaks.

They are made by cryptography's CertificateBuilder, and where it refuses to make one as broken as
we want it, by replacing an element of the DER.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from ca import der
from ca.keys import check_public_key, public_key_der, subject_key_id
from ca.lint import Expectation
from meshca.spiffe_id import SpiffeId
from tests.builders import NOW, ORDERS, make_key, make_pki, make_profile

PKI = make_pki()
AUTHORITY = PKI.authority()
SERIAL = 0x8F00_0000_0000_0000_0000_0000_0000_0001
URL = "http://ca.example.org"
CRL = f"{URL}/crl/{AUTHORITY.authority_id}.crl"
ISSUER = f"{URL}/ca/{AUTHORITY.authority_id}.der"
BOTH = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


def key_usage(**changes: bool) -> x509.KeyUsage:
    usual = {
        "digital_signature": True,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": True,
        "key_cert_sign": False,
        "crl_sign": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    return x509.KeyUsage(**{**usual, **changes})


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
    *urls: str, method: x509.ObjectIdentifier = AuthorityInformationAccessOID.CA_ISSUERS
) -> x509.AuthorityInformationAccess:
    return x509.AuthorityInformationAccess([x509.AccessDescription(method, uri(u)) for u in urls])


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
        "usage": (key_usage(), True),
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


PUBLIC = expected(profile=make_profile(public_url=URL))
NAMED = expected(dns_names=("localhost", "mesh.example.org"))
HOUR = timedelta(hours=1)
OTHER_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
FOREIGN = SpiffeId("example.com", "/ns/shop/sa/orders")
NO_PATH = SpiffeId("example.org", "")
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
NAMELESS = replace(AUTHORITY)
object.__setattr__(NAMELESS, "subject_der", b"\x30\x00")

GOOD: dict[str, tuple[bytes, Expectation]] = {
    "the plain leaf": (Leaf().der(), expected()),
    "P-384": (Leaf(kind="p384").der(), expected("p384")),
    "RSA": (
        Leaf(
            kind="rsa2048",
            extensions={"usage": (key_usage(key_agreement=False, key_encipherment=True), True)},
        ).der(),
        expected("rsa2048"),
    ),
    "DNS names that policy allows": (
        extension(
            san=(san(uri(), x509.DNSName("localhost"), x509.DNSName("mesh.example.org")), True)
        ),
        NAMED,
    ),
    "URLs that answer": (
        extension(crl=(crl_points(CRL), False), access=(access(ISSUER), False)),
        PUBLIC,
    ),
    "as long as its chain and the profile allow": (
        Leaf(not_before=NOW, not_after=NOW + timedelta(hours=24, seconds=60)).der(),
        expected(),
    ),
}

BAD: dict[str, dict[str, tuple[bytes, Expectation]]] = {
    "serial_is_random_and_fits": {
        "63 bits": (Leaf(serial=2**63 - 1).der(), expected()),
        "counted": (Leaf(serial=7).der(), expected()),
        "160 bits": (with_part(Leaf().der(), 1, der.integer(2**159)), expected()),
    },
    "signature_algorithm_is_the_authoritys": {
        "another hash": (Leaf(signed_with="p384").der(), expected()),
        "another scheme": (Leaf(signed_with="rsa2048").der(), expected()),
        "the inner one only": (
            with_part(Leaf().der(), 2, der.items(Leaf(signed_with="p384").der())[1]),
            expected(),
        ),
    },
    "issuer_is_the_authority": {
        "another name": (Leaf(issuer=OTHER_NAME).der(), expected()),
        "empty": (Leaf(issuer=x509.Name([])).der(), expected(authority=NAMELESS)),
    },
    "dates_are_written_for_their_year": {
        "GeneralizedTime before 2050": (
            with_part(
                Leaf().der(), 4, validity(b"\x18\x0f20261101120000Z", b"\x18\x0f20261101130000Z")
            ),
            expected(),
        ),
        "one of them": (
            with_part(
                Leaf().der(), 4, validity(b"\x17\x0d261101120000Z", b"\x18\x0f20261101130000Z")
            ),
            expected(),
        ),
    },
    "validity_is_inside_the_chain": {
        "ends a second after it": (
            Leaf(
                not_before=AUTHORITY.not_after - HOUR,
                not_after=AUTHORITY.not_after + timedelta(seconds=1),
            ).der(),
            expected(),
        ),
        "begins a second before it": (
            Leaf(not_before=AUTHORITY.not_before - timedelta(seconds=1)).der(),
            expected(),
        ),
        "ends before it begins": (
            with_part(Leaf().der(), 4, der.validity(NOW + HOUR, NOW)),
            expected(),
        ),
        "ends as it begins": (with_part(Leaf().der(), 4, der.validity(NOW, NOW)), expected()),
    },
    "validity_is_short": {
        "a second too long": (
            Leaf(not_after=NOW + timedelta(hours=24, seconds=61)).der(),
            expected(),
        ),
    },
    "subject_is_empty": {
        "a common name": (Leaf(subject=OTHER_NAME).der(), expected()),
    },
    "public_key_is_the_requested": {
        "another key": (
            with_part(Leaf().der(), 6, public_key_der(make_key("p256", 5).public_key())),
            expected(),
        ),
    },
    "san_is_one_spiffe_uri": {
        "absent": (extension(san=None), expected()),
        "another identity": (extension(san=(san(uri("spiffe://example.org/x")), True)), expected()),
        "two URIs": (
            extension(san=(san(uri(), uri("spiffe://example.org/x")), True)),
            expected(),
        ),
        "the same URI twice": (extension(san=(san(uri(), uri()), True)), expected()),
        "a DNS name nobody allowed": (
            extension(san=(san(uri(), x509.DNSName("localhost")), True)),
            expected(),
        ),
        "a DNS name is missing": (
            extension(san=(san(uri(), x509.DNSName("localhost")), True)),
            NAMED,
        ),
        "the URI as a DNS name": (
            extension(san=(san(x509.DNSName(str(ORDERS))), True)),
            expected(),
        ),
        "an e-mail address": (
            extension(san=(san(uri(), x509.RFC822Name("a@example.org")), True)),
            expected(),
        ),
    },
    "identity_is_a_leaf_of_the_trust_domain": {
        "foreign": (
            extension(san=(san(uri(str(FOREIGN))), True)),
            expected(spiffe_id=FOREIGN),
        ),
        "no path": (
            extension(san=(san(uri(str(NO_PATH))), True)),
            expected(spiffe_id=NO_PATH),
        ),
    },
    "basic_constraints_say_leaf": {
        "absent": (extension(constraints=None), expected()),
        "a CA": (
            extension(constraints=(x509.BasicConstraints(ca=True, path_length=None), True)),
            expected(),
        ),
    },
    "key_usage_is_for_a_leaf": {
        "absent": (extension(usage=None), expected()),
        "keyCertSign": (extension(usage=(key_usage(key_cert_sign=True), True)), expected()),
        "cRLSign": (extension(usage=(key_usage(crl_sign=True), True)), expected()),
        "no digitalSignature": (
            extension(usage=(key_usage(digital_signature=False), True)),
            expected(),
        ),
        "keyEncipherment for EC": (
            extension(usage=(key_usage(key_encipherment=True), True)),
            expected(),
        ),
        "no keyAgreement for EC": (
            extension(usage=(key_usage(key_agreement=False), True)),
            expected(),
        ),
        "keyAgreement for RSA": (Leaf(kind="rsa2048").der(), expected("rsa2048")),
        "nonRepudiation": (extension(usage=(key_usage(content_commitment=True), True)), expected()),
        "dataEncipherment": (
            extension(usage=(key_usage(data_encipherment=True), True)),
            expected(),
        ),
        "decipherOnly": (extension(usage=(key_usage(decipher_only=True), True)), expected()),
    },
    "extended_key_usage_is_both_ends": {
        "absent": (extension(extended=None), expected()),
        "serverAuth only": (
            extension(extended=(x509.ExtendedKeyUsage(BOTH[:1]), False)),
            expected(),
        ),
        "clientAuth only": (
            extension(extended=(x509.ExtendedKeyUsage(BOTH[1:]), False)),
            expected(),
        ),
        "codeSigning too": (
            extension(
                extended=(x509.ExtendedKeyUsage([*BOTH, ExtendedKeyUsageOID.CODE_SIGNING]), False)
            ),
            expected(),
        ),
    },
    "subject_key_identifier_is_the_keys": {
        "absent": (extension(ski=None), expected()),
        "another": (extension(ski=(x509.SubjectKeyIdentifier(bytes(20)), False)), expected()),
    },
    "authority_key_identifier_is_the_issuers": {
        "absent": (extension(aki=None), expected()),
        "another": (extension(aki=(aki(bytes(20)), False)), expected()),
    },
    "criticality_is_right": {
        "SAN": (extension(san=(san(uri()), False)), expected()),
        "basic constraints": (
            extension(constraints=(x509.BasicConstraints(ca=False, path_length=None), False)),
            expected(),
        ),
        "key usage": (extension(usage=(key_usage(), False)), expected()),
        "extended key usage": (extension(extended=(x509.ExtendedKeyUsage(BOTH), True)), expected()),
        "key identifier": (extension(aki=(aki(), True)), expected()),
    },
    "urls_are_those_that_answer": {
        "a CRL that nobody publishes": (extension(crl=(crl_points(CRL), False)), expected()),
        "an issuer that nobody publishes": (
            extension(access=(access(ISSUER), False)),
            expected(),
        ),
        "no CRL": (extension(access=(access(ISSUER), False)), PUBLIC),
        "no issuer": (extension(crl=(crl_points(CRL), False)), PUBLIC),
        "another CRL": (
            extension(crl=(crl_points(f"{URL}/x"), False), access=(access(ISSUER), False)),
            PUBLIC,
        ),
        "two CRLs": (
            extension(crl=(crl_points(CRL, CRL), False), access=(access(ISSUER), False)),
            PUBLIC,
        ),
        "a CRL for some reasons only": (
            extension(
                crl=(
                    crl_points(CRL, reasons=frozenset([x509.ReasonFlags.key_compromise])),
                    False,
                ),
                access=(access(ISSUER), False),
            ),
            PUBLIC,
        ),
        "somebody else's CRL": (
            extension(
                crl=(crl_points(CRL, crl_issuer=[x509.DirectoryName(OTHER_NAME)]), False),
                access=(access(ISSUER), False),
            ),
            PUBLIC,
        ),
        "OCSP in place of the issuer": (
            extension(
                crl=(crl_points(CRL), False),
                access=(access(ISSUER, method=AuthorityInformationAccessOID.OCSP), False),
            ),
            PUBLIC,
        ),
    },
    "no_other_extension": {
        "an unknown one": (extension(other=(UNKNOWN, False)), expected()),
        "an unknown critical one": (extension(other=(UNKNOWN, True)), expected()),
        "a known one": (extension(other=(x509.OCSPNoCheck(), False)), expected()),
        "a policy": (
            extension(other=(x509.TLSFeature([x509.TLSFeatureType.status_request]), False)),
            expected(),
        ),
    },
}
