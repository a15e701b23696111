"""Each rule for an OCSP signer's certificate, broken alone."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca import der
from ca.keys import check_public_key, public_key_der, subject_key_id
from ca.ocsp.lint import LINT, RULES, Expectation, signature_verifies
from meshca.errors import IssuanceFault
from tests.builders import NOW, make_key, make_pki
from tests.ca.broken_rules import broken_rules
from tests.key_usage import key_usage

PKI = make_pki()
AUTHORITY = PKI.authority()
DAY = timedelta(days=1)
PUBLIC = check_public_key(make_key("p256", 3).public_key())
EXPECTED = Expectation(AUTHORITY, public_key_der(PUBLIC))
SERIAL = 0x8F00_0000_0000_0000_0000_0000_0000_0001
OTHER_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody else")])
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
SIGNING = ExtendedKeyUsageOID.OCSP_SIGNING
Extensions = dict[str, tuple[x509.ExtensionType, bool] | None]


def aki(digest: bytes = AUTHORITY.subject_key_id) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(digest, None, None)


def usage(**changes: bool) -> x509.KeyUsage:
    return key_usage(**{"digital_signature": True, **changes})


GOOD: Extensions = {
    "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
    "usage": (usage(), True),
    "extended": (x509.ExtendedKeyUsage([SIGNING]), False),
    "nocheck": (x509.OCSPNoCheck(), False),
    "ski": (x509.SubjectKeyIdentifier(subject_key_id(EXPECTED.public_key)), False),
    "aki": (aki(), False),
}


@dataclass(frozen=True)
class Signer:
    """The certificate of a good signer; replace what is to be wrong."""

    serial: int = SERIAL
    issuer: x509.Name = AUTHORITY.certificate.subject
    subject: x509.Name = OTHER_NAME
    not_before: datetime = NOW
    not_after: datetime = NOW + DAY
    key: int = 3
    signed_with: str = "p256"
    extensions: Extensions = field(default_factory=dict)

    def made(self) -> x509.Certificate:
        """Return it, signed by a throwaway key."""
        builder = (
            x509.CertificateBuilder()
            .serial_number(self.serial)
            .issuer_name(self.issuer)
            .subject_name(self.subject)
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .public_key(check_public_key(make_key("p256", self.key).public_key()))
        )
        for extension in {**GOOD, **self.extensions}.values():
            if extension is not None:
                builder = builder.add_extension(extension[0], critical=extension[1])
        digest = hashes.SHA384() if self.signed_with == "p384" else hashes.SHA256()
        return builder.sign(make_key(self.signed_with, 9), digest)


def extension(**changes: tuple[x509.ExtensionType, bool] | None) -> x509.Certificate:
    return Signer(extensions=changes).made()


def other_inner_algorithm() -> x509.Certificate:
    tbs, *rest = der.items(Signer().made().public_bytes(Encoding.DER))
    parts = der.items(tbs)
    parts[2] = bytes.fromhex("300a06082a8648ce3d040303")
    return x509.load_der_x509_certificate(der.encode(0x30, der.encode(0x30, *parts), *rest))


BAD: dict[str, dict[str, x509.Certificate]] = {
    "serial_is_random_and_fits": {
        "63 bits": Signer(serial=2**63 - 1).made(),
        "counted": Signer(serial=7).made(),
    },
    "signature_algorithm_is_the_authoritys": {
        "another hash": Signer(signed_with="p384").made(),
        "another scheme": Signer(signed_with="rsa2048").made(),
        "the inner one only": other_inner_algorithm(),
    },
    "issuer_is_the_authority": {"another name": Signer(issuer=x509.Name([])).made()},
    "subject_is_its_own": {
        "none": Signer(subject=x509.Name([])).made(),
        "the authority's": Signer(subject=AUTHORITY.certificate.subject).made(),
    },
    "validity_is_inside_the_chain": {
        "ends a second after it": Signer(
            not_before=AUTHORITY.not_after - DAY,
            not_after=AUTHORITY.not_after + timedelta(seconds=1),
        ).made(),
        "begins a second before it": Signer(
            not_before=AUTHORITY.not_before - timedelta(seconds=1)
        ).made(),
    },
    "public_key_is_the_signers": {"another key": Signer(key=4).made()},
    "basic_constraints_say_leaf": {
        "absent": extension(constraints=None),
        "a CA": extension(constraints=(x509.BasicConstraints(ca=True, path_length=0), True)),
    },
    "key_usage_is_to_sign": {
        "absent": extension(usage=None),
        "certificates too": extension(usage=(usage(key_cert_sign=True), True)),
        "lists too": extension(usage=(usage(crl_sign=True), True)),
        "key agreement too": extension(usage=(usage(key_agreement=True), True)),
    },
    "extended_key_usage_is_ocsp_signing": {
        "absent": extension(extended=None),
        "TLS too": extension(
            extended=(x509.ExtendedKeyUsage([SIGNING, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        ),
        "TLS only": extension(
            extended=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        ),
    },
    "its_own_revocation_is_not_asked": {"absent": extension(nocheck=None)},
    "subject_key_identifier_is_the_keys": {
        "absent": extension(ski=None),
        "another": extension(ski=(x509.SubjectKeyIdentifier(bytes(20)), False)),
    },
    "authority_key_identifier_is_the_issuers": {
        "absent": extension(aki=None),
        "another": extension(aki=(aki(bytes(20)), False)),
    },
    "criticality_is_right": {
        "basic constraints": extension(
            constraints=(x509.BasicConstraints(ca=False, path_length=None), False)
        ),
        "key usage": extension(usage=(usage(), False)),
        "extended key usage": extension(extended=(x509.ExtendedKeyUsage([SIGNING]), True)),
        "nocheck": extension(nocheck=(x509.OCSPNoCheck(), True)),
    },
    "no_other_extension": {
        "a name": extension(
            san=(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier("spiffe://example.org/ns/shop/sa/orders")]
                ),
                False,
            )
        ),
        "an unknown one": extension(other=(UNKNOWN, False)),
    },
}
CASES = [(rule, name) for rule, cases in BAD.items() for name in cases]


def broken(certificate: x509.Certificate, expected: Expectation = EXPECTED) -> list[str]:
    return broken_rules(lambda: LINT.check(certificate, expected))


def test_a_good_one_breaks_no_rule() -> None:
    assert broken(Signer().made()) == []


@pytest.mark.parametrize(("rule", "name"), CASES, ids=[f"{r}-{n}" for r, n in CASES])
def test_only_this_rule_is_broken(rule: str, name: str) -> None:
    assert broken(BAD[rule][name]) == [rule]


def test_it_may_not_live_longer_than_a_week_and_its_backdating() -> None:
    authority = make_pki(lifetime=timedelta(days=60)).authority()
    expected = replace(EXPECTED, authority=authority)
    week = Signer(not_after=NOW + timedelta(days=7, minutes=10)).made()
    longer = Signer(not_after=NOW + timedelta(days=7, minutes=10, seconds=1)).made()

    assert broken(week, expected) == []
    assert broken(longer, expected) == ["validity_is_short"]


def test_every_rule_has_a_certificate_that_breaks_only_it() -> None:
    # cryptography makes version 3 only, and a version 1 has no extensions to parse.
    tested = set(BAD) | {"version_is_3", "validity_is_short"}
    assert tested == {rule.__name__ for rule in RULES}


def test_every_rule_says_where_it_comes_from() -> None:
    for rule in (*RULES, signature_verifies):
        assert any(source in (rule.__doc__ or "") for source in ("RFC ", "X509-SVID "))


def test_the_signature_must_verify_with_the_authoritys_key() -> None:
    with pytest.raises(IssuanceFault, match="signature_verifies"):
        LINT.check_signed(Signer().made(), EXPECTED)
