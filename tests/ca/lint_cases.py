"""Good and bad leaves for lint, by the rule that a bad one breaks."""

from dataclasses import replace
from datetime import timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca import der
from ca.keys import public_key_der
from ca.lint import Expectation
from meshca.spiffe_id import SpiffeId
from tests.builders import NOW, ORDERS, make_key, make_profile
from tests.ca.leaves import (
    AUTHORITY,
    BOTH,
    CRL,
    ISSUER,
    OCSP,
    URL,
    Leaf,
    access,
    aki,
    crl_points,
    expected,
    extension,
    leaf_usage,
    san,
    uri,
    validity,
    with_part,
)

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
            extensions={"usage": (leaf_usage(key_agreement=False, key_encipherment=True), True)},
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
        extension(crl=(crl_points(CRL), False), access=(access(), False)),
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
        "keyCertSign": (extension(usage=(leaf_usage(key_cert_sign=True), True)), expected()),
        "cRLSign": (extension(usage=(leaf_usage(crl_sign=True), True)), expected()),
        "no digitalSignature": (
            extension(usage=(leaf_usage(digital_signature=False), True)),
            expected(),
        ),
        "keyEncipherment for EC": (
            extension(usage=(leaf_usage(key_encipherment=True), True)),
            expected(),
        ),
        "no keyAgreement for EC": (
            extension(usage=(leaf_usage(key_agreement=False), True)),
            expected(),
        ),
        "keyAgreement for RSA": (Leaf(kind="rsa2048").der(), expected("rsa2048")),
        "nonRepudiation": (
            extension(usage=(leaf_usage(content_commitment=True), True)),
            expected(),
        ),
        "dataEncipherment": (
            extension(usage=(leaf_usage(data_encipherment=True), True)),
            expected(),
        ),
        "decipherOnly": (extension(usage=(leaf_usage(decipher_only=True), True)), expected()),
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
        "key usage": (extension(usage=(leaf_usage(), False)), expected()),
        "extended key usage": (extension(extended=(x509.ExtendedKeyUsage(BOTH), True)), expected()),
        "key identifier": (extension(aki=(aki(), True)), expected()),
    },
    "urls_are_those_that_answer": {
        "a CRL that nobody publishes": (extension(crl=(crl_points(CRL), False)), expected()),
        "an issuer that nobody publishes": (
            extension(access=(access(ocsp=None), False)),
            expected(),
        ),
        "a responder that nobody runs": (
            extension(access=(access(issuer=None), False)),
            expected(),
        ),
        "no CRL": (extension(access=(access(), False)), PUBLIC),
        "no access": (extension(crl=(crl_points(CRL), False)), PUBLIC),
        "another CRL": (
            extension(crl=(crl_points(f"{URL}/x"), False), access=(access(), False)),
            PUBLIC,
        ),
        "two CRLs": (
            extension(crl=(crl_points(CRL, CRL), False), access=(access(), False)),
            PUBLIC,
        ),
        "a CRL for some reasons only": (
            extension(
                crl=(
                    crl_points(CRL, reasons=frozenset([x509.ReasonFlags.key_compromise])),
                    False,
                ),
                access=(access(), False),
            ),
            PUBLIC,
        ),
        "somebody else's CRL": (
            extension(
                crl=(crl_points(CRL, crl_issuer=[x509.DirectoryName(OTHER_NAME)]), False),
                access=(access(), False),
            ),
            PUBLIC,
        ),
        **{
            name: (extension(crl=(crl_points(CRL), False), access=(said, False)), PUBLIC)
            for name, said in {
                "no OCSP": access(ocsp=None),
                "no issuer": access(issuer=None),
                "another OCSP": access(ocsp=f"{URL}/x"),
                "another issuer": access(issuer=f"{URL}/x"),
                "one for the other": access(ocsp=ISSUER, issuer=OCSP),
                "two issuers": access(uri(ISSUER)),
                "an issuer that is no URL": access(x509.DNSName(ISSUER), issuer=None),
                "the issuer first": x509.AuthorityInformationAccess([*access()][::-1]),
            }.items()
        },
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
