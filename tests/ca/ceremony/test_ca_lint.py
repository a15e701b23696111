"""Every rule for CA certificates has certificates that break it and nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca.ceremony import ca_lint
from ca.ceremony.ca_lint import RULES, Expectation, name_constraints
from ca.keys import check_public_key, public_key_der, subject_key_id
from meshca.errors import IssuanceFault
from tests.builders import NOW, TRUST_DOMAIN, make_key
from tests.ca.broken_rules import broken_rules
from tests.key_usage import key_usage

DAY = timedelta(days=1)
ROOT_KEY, KEY, OTHER_KEY = make_key("p384", 501), make_key("p256", 502), make_key("p256", 503)
SERIAL = 0x8F00_0000_0000_0000_0000_0001
Extensions = Mapping[str, tuple[x509.ExtensionType, bool] | None]


def name(*texts: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text) for text in texts])


def usage(**changes: bool) -> x509.KeyUsage:
    return key_usage(**{"key_cert_sign": True, "crl_sign": True, **changes})


def san(*names: x509.GeneralName) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(names)


def uri(text: str = f"spiffe://{TRUST_DOMAIN}") -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def ski(key: Any) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier(subject_key_id(public_key_der(key.public_key())))


def aki(key: Any) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier(ski(key).digest, None, None)


def ca(*, path_length: int | None, is_ca: bool = True) -> x509.BasicConstraints:
    return x509.BasicConstraints(ca=is_ca, path_length=path_length)


def made(extensions: Extensions, **changes: Any) -> x509.Certificate:
    """Return a certificate of `extensions`, in order; those that are None are left out."""
    values = {
        "serial": SERIAL,
        "subject": name("root"),
        "issuer": name("root"),
        "begin": NOW,
        "end": NOW + 100 * DAY,
        "key": ROOT_KEY,
        "signer": ROOT_KEY,
        "hash": hashes.SHA384(),
        **changes,
    }
    builder = (
        x509.CertificateBuilder()
        .serial_number(values["serial"])
        .subject_name(values["subject"])
        .issuer_name(values["issuer"])
        .not_valid_before(values["begin"])
        .not_valid_after(values["end"])
        .public_key(values["key"].public_key())
    )
    for extension in extensions.values():
        if extension is not None:
            builder = builder.add_extension(extension[0], critical=extension[1])
    return builder.sign(values["signer"], values["hash"])


ROOT_EXTENSIONS: Extensions = {
    "constraints": (ca(path_length=1), True),
    "usage": (usage(), True),
    "ski": (ski(ROOT_KEY), False),
    "san": (san(uri()), False),
}
EXTENSIONS: Extensions = {
    "constraints": (ca(path_length=0), True),
    "usage": (usage(), True),
    "ski": (ski(KEY), False),
    "san": (san(uri()), False),
    "aki": (aki(ROOT_KEY), False),
}
ROOT = made(ROOT_EXTENSIONS)
EXPECTED_ROOT = Expectation(
    trust_domain=TRUST_DOMAIN,
    subject=name("root"),
    public_key=check_public_key(ROOT_KEY.public_key()),
    not_before=NOW,
    not_after=NOW + 100 * DAY,
    path_length=1,
    constrained=False,
    issuer=None,
)
EXPECTED = replace(
    EXPECTED_ROOT,
    subject=name("intermediate"),
    public_key=check_public_key(KEY.public_key()),
    not_after=NOW + DAY,
    path_length=0,
    issuer=ROOT,
)


def root(*, expected: Expectation = EXPECTED_ROOT, **changes: Any) -> Any:
    """Return a root with its expectation; `changes` are of extensions or of what is around."""
    extensions = {k: changes.pop(k) for k in list(changes) if k in {*EXTENSIONS, "more"}}
    return made({**ROOT_EXTENSIONS, **extensions}, **changes), expected


def intermediate(*, expected: Expectation = EXPECTED, **changes: Any) -> Any:
    """Return an intermediate with its expectation."""
    extensions = {k: changes.pop(k) for k in list(changes) if k in {*EXTENSIONS, "more"}}
    usual = {"subject": name("intermediate"), "end": NOW + DAY, "key": KEY}
    return made({**EXTENSIONS, **extensions}, **{**usual, **changes}), expected


SHALLOW = made({**ROOT_EXTENSIONS, "constraints": (ca(path_length=0), True)})
CONSTRAINED = replace(EXPECTED_ROOT, constrained=True)
GOOD = {
    "a root": root(),
    "an intermediate": intermediate(),
    "a root with name constraints": root(
        expected=CONSTRAINED, more=(name_constraints(TRUST_DOMAIN), True)
    ),
    "an intermediate that ends with its root": intermediate(
        end=NOW + 100 * DAY, expected=replace(EXPECTED, not_after=NOW + 100 * DAY)
    ),
}
OTHER_ISSUER = name("other")
LONG = NOW + 101 * DAY
BAD: dict[str, dict[str, Any]] = {
    "serial_is_random_and_fits": {"short": root(serial=7)},
    "signature_algorithm_is_the_signing_keys": {
        "SHA-256 with P-384": root(hash=hashes.SHA256()),
        "SHA-512 with P-384": intermediate(hash=hashes.SHA512()),
    },
    "issuer_is_the_signers_name": {
        "of a root": root(issuer=OTHER_ISSUER),
        "of an intermediate": intermediate(issuer=OTHER_ISSUER),
    },
    "subject_is_the_planned": {
        "another": intermediate(subject=OTHER_ISSUER),
        "none": intermediate(subject=name(), expected=replace(EXPECTED, subject=name())),
    },
    "subject_is_not_the_issuers": {
        "the same": intermediate(
            subject=name("root"), expected=replace(EXPECTED, subject=name("root"))
        )
    },
    "validity_is_the_planned": {
        "longer": root(end=LONG),
        "earlier": root(begin=NOW - DAY),
    },
    "validity_is_inside_the_issuers": {
        "longer": intermediate(end=LONG, expected=replace(EXPECTED, not_after=LONG)),
        "earlier": intermediate(begin=NOW - DAY, expected=replace(EXPECTED, not_before=NOW - DAY)),
    },
    "public_key_is_the_requested": {"another": intermediate(key=OTHER_KEY)},
    "basic_constraints_are_a_cas": {
        "missing": intermediate(constraints=None),
        "not a CA": intermediate(constraints=(ca(path_length=None, is_ca=False), True)),
        "another path length": root(constraints=(ca(path_length=2), True)),
        "unlimited": root(constraints=(ca(path_length=None), True)),
    },
    "path_length_is_below_the_issuers": {
        "equal": intermediate(
            constraints=(ca(path_length=1), True), expected=replace(EXPECTED, path_length=1)
        ),
        "under none": intermediate(expected=replace(EXPECTED, issuer=SHALLOW)),
    },
    "key_usage_is_a_cas": {
        "missing": root(usage=None),
        "signs more": root(usage=(usage(digital_signature=True), True)),
        "no lists": intermediate(usage=(usage(crl_sign=False), True)),
    },
    "san_is_the_trust_domain": {
        "missing": root(san=None),
        "another": root(san=(san(uri("spiffe://example.com")), False)),
        "with a path": intermediate(san=(san(uri(f"spiffe://{TRUST_DOMAIN}/ns/x")), False)),
        "two": intermediate(san=(san(uri(), x509.DNSName("ca.example.org")), False)),
    },
    "subject_key_identifier_is_the_keys": {
        "missing": intermediate(ski=None),
        "another key's": intermediate(ski=(ski(OTHER_KEY), False)),
    },
    "authority_key_identifier_is_the_issuers": {
        "missing": intermediate(aki=None),
        "another key's": intermediate(aki=(aki(OTHER_KEY), False)),
        "on a root": root(aki=(aki(ROOT_KEY), False)),
    },
    "name_constraints_are_the_planned": {
        "not planned": root(more=(name_constraints(TRUST_DOMAIN), True)),
        "planned and missing": root(expected=CONSTRAINED),
        "another's": root(expected=CONSTRAINED, more=(name_constraints("example.com"), True)),
    },
    "criticality_is_right": {
        "constraints": root(constraints=(ca(path_length=1), False)),
        "usage": intermediate(usage=(usage(), False)),
        "names": intermediate(san=(san(uri()), True)),
        "name constraints": root(
            expected=CONSTRAINED, more=(name_constraints(TRUST_DOMAIN), False)
        ),
    },
    "no_other_extension": {
        "extended key usage": intermediate(
            more=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        )
    },
}
CASES = [(rule, case) for rule, cases in BAD.items() for case in cases]


def broken(certificate: x509.Certificate, expected: Expectation) -> list[str]:
    """Return the names of the rules that lint finds broken."""
    return broken_rules(lambda: ca_lint.LINT.check(certificate, expected))


@pytest.mark.parametrize("case", GOOD)
def test_accepts(case: str) -> None:
    certificate, expected = GOOD[case]
    assert broken(certificate, expected) == []
    ca_lint.LINT.check_signed(certificate, expected)


@pytest.mark.parametrize(("rule", "case"), CASES, ids=[f"{r}-{c}" for r, c in CASES])
def test_only_this_rule_is_broken(rule: str, case: str) -> None:
    assert broken(*BAD[rule][case]) == [rule]


def test_every_rule_has_a_certificate_that_breaks_only_it() -> None:
    # The library builds version 3 only, and version 1 has no extensions.
    assert {*BAD, "version_is_3"} == {rule.__name__ for rule in RULES}


def test_every_rule_says_where_it_comes_from() -> None:
    for rule in (*RULES, ca_lint.signature_verifies):
        assert any(
            s in (rule.__doc__ or "") for s in ("RFC ", "X509-SVID ", "nvariant ", "Profile")
        )


@pytest.mark.parametrize(
    ("certificate", "expected"),
    [root(signer=make_key("p384", 504)), intermediate(signer=make_key("p384", 504))],
    ids=["a root", "an intermediate"],
)
def test_a_signature_of_another_key_is_found(
    certificate: x509.Certificate, expected: Expectation
) -> None:
    ca_lint.LINT.check(certificate, expected)
    with pytest.raises(IssuanceFault, match="signature_verifies: the signature does not verify"):
        ca_lint.LINT.check_signed(certificate, expected)
