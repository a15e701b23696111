"""Every rule for revocation lists has lists that break it and nothing else."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca.ceremony import crl_lint
from ca.ceremony.crl_lint import RULES, Expectation, Revocation
from meshca.errors import IssuanceFault
from tests.builders import NOW, make_key
from tests.ca.broken_rules import broken_rules
from tests.ca.ceremony.test_ca_lint import (
    OTHER_ISSUER,
    OTHER_KEY,
    ROOT,
    ROOT_EXTENSIONS,
    ROOT_KEY,
    aki,
    made,
    usage,
)

DAY = timedelta(days=1)
STOLEN = Revocation(NOW - DAY, x509.ReasonFlags.key_compromise)
OLD = Revocation(NOW - 2 * DAY, None)
ENTRIES = {0xABC: STOLEN, 0xDEF: OLD}


def entry(serial: int, time: datetime, *extensions: x509.ExtensionType) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(time)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.build()


def usual_entries(entries: dict[int, Revocation]) -> list[x509.RevokedCertificate]:
    return [
        entry(serial, r.time, *([x509.CRLReason(r.reason)] if r.reason else []))
        for serial, r in entries.items()
    ]


def signed(**changes: Any) -> x509.CertificateRevocationList:
    """Return a list: a good one but for `changes`."""
    values = {
        "issuer": ROOT.subject,
        "begin": NOW,
        "end": NOW + 30 * DAY,
        "entries": usual_entries(ENTRIES),
        "number": (x509.CRLNumber(7), False),
        "aki": (aki(ROOT_KEY), False),
        "more": None,
        "signer": ROOT_KEY,
        "hash": hashes.SHA384(),
        **changes,
    }
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(values["issuer"])
        .last_update(values["begin"])
        .next_update(values["end"])
    )
    for extension in (values["number"], values["aki"], values["more"]):
        if extension is not None:
            builder = builder.add_extension(extension[0], critical=extension[1])
    for revoked in values["entries"]:
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(values["signer"], values["hash"])


PREVIOUS = signed(number=(x509.CRLNumber(6), False), begin=NOW - DAY, end=NOW + DAY)
EXPECTED = Expectation(
    issuer=ROOT,
    number=7,
    this_update=NOW,
    next_update=NOW + 30 * DAY,
    revoked=ENTRIES,
    previous=None,
)
AFTER = replace(EXPECTED, previous=PREVIOUS)
LONG = NOW + 101 * DAY
NO_LISTS = made({**ROOT_EXTENSIONS, "usage": (usage(crl_sign=False), True)})
FUTURE = {0xABC: Revocation(NOW + DAY, None)}
UNSPECIFIED = {0xABC: Revocation(NOW - DAY, x509.ReasonFlags.unspecified)}
ONLY_STOLEN = {0xABC: STOLEN}
LATER = {**ENTRIES, 0xDEF: Revocation(NOW - DAY, None)}
GOOD = {
    "with entries": (signed(), EXPECTED),
    "empty": (signed(entries=[]), replace(EXPECTED, revoked={})),
    "after another": (signed(), AFTER),
}
BAD: dict[str, dict[str, tuple[x509.CertificateRevocationList, Expectation]]] = {
    "signature_algorithm_is_the_issuers": {
        "SHA-256 with P-384": (signed(hash=hashes.SHA256()), EXPECTED)
    },
    "issuer_is_the_signer": {"another": (signed(issuer=OTHER_ISSUER), EXPECTED)},
    "issuer_may_sign_lists": {"no cRLSign": (signed(), replace(EXPECTED, issuer=NO_LISTS))},
    "updates_are_the_planned": {
        "later": (signed(begin=NOW + timedelta(hours=1)), EXPECTED),
        "longer": (signed(end=NOW + 31 * DAY), EXPECTED),
    },
    "list_is_inside_its_issuers_life": {
        "longer": (signed(end=LONG), replace(EXPECTED, next_update=LONG)),
        "earlier": (
            signed(begin=NOW - DAY, entries=usual_entries({0xDEF: OLD})),
            replace(EXPECTED, this_update=NOW - DAY, revoked={0xDEF: OLD}),
        ),
    },
    "number_is_the_planned": {"another": (signed(number=(x509.CRLNumber(8), False)), EXPECTED)},
    "number_grows": {
        "the same": (
            signed(number=(x509.CRLNumber(6), False)),
            replace(AFTER, number=6),
        ),
        "begins earlier": (
            signed(),
            replace(AFTER, previous=signed(number=(x509.CRLNumber(6), False), begin=NOW + DAY)),
        ),
    },
    "authority_key_identifier_is_the_issuers": {
        "missing": (signed(aki=None), EXPECTED),
        "another": (signed(aki=(aki(OTHER_KEY), False)), EXPECTED),
    },
    "entries_are_the_planned": {
        "one less": (signed(entries=usual_entries(ONLY_STOLEN)), EXPECTED),
        "one more": (signed(), replace(EXPECTED, revoked=ONLY_STOLEN)),
        "one twice": (signed(entries=usual_entries(ENTRIES) * 2), EXPECTED),
        "another time": (signed(entries=usual_entries(LATER)), EXPECTED),
    },
    "entries_lie_in_the_past": {
        "the future": (signed(entries=usual_entries(FUTURE)), replace(EXPECTED, revoked=FUTURE))
    },
    "reasons_say_something": {
        "unspecified": (
            signed(entries=usual_entries(UNSPECIFIED)),
            replace(EXPECTED, revoked=UNSPECIFIED),
        )
    },
    "nothing_is_forgotten": {
        "one less": (
            signed(entries=usual_entries(ONLY_STOLEN)),
            replace(AFTER, revoked=ONLY_STOLEN),
        ),
        "since later": (signed(entries=usual_entries(LATER)), replace(AFTER, revoked=LATER)),
    },
    "no_other_extension": {
        "a partial list": (
            signed(
                more=(
                    x509.IssuingDistributionPoint(None, None, True, False, None, False, False),
                    True,
                )
            ),
            EXPECTED,
        ),
        "a critical number": (signed(number=(x509.CRLNumber(7), True)), EXPECTED),
    },
}
CASES = [(rule, case) for rule, cases in BAD.items() for case in cases]


def broken(crl: x509.CertificateRevocationList, expected: Expectation) -> list[str]:
    """Return the names of the rules that lint finds broken."""
    return broken_rules(lambda: crl_lint.LINT.check(crl, expected))


@pytest.mark.parametrize("case", GOOD)
def test_accepts(case: str) -> None:
    crl, expected = GOOD[case]
    assert broken(crl, expected) == []
    crl_lint.LINT.check_signed(crl, expected)


@pytest.mark.parametrize(("rule", "case"), CASES, ids=[f"{r}-{c}" for r, c in CASES])
def test_only_this_rule_is_broken(rule: str, case: str) -> None:
    assert broken(*BAD[rule][case]) == [rule]


def test_every_rule_has_a_list_that_breaks_only_it() -> None:
    assert set(BAD) == {rule.__name__ for rule in RULES}


def test_every_rule_says_where_it_comes_from() -> None:
    for rule in (*RULES, crl_lint.signature_verifies):
        assert any(source in (rule.__doc__ or "") for source in ("RFC ", "Profile"))


def test_a_signature_of_another_key_is_found() -> None:
    crl = signed(signer=make_key("p384", 504))
    crl_lint.LINT.check(crl, EXPECTED)
    with pytest.raises(IssuanceFault, match="signature_verifies: the signature does not verify"):
        crl_lint.LINT.check_signed(crl, EXPECTED)


@pytest.mark.parametrize(
    ("crl", "said"),
    [
        (signed(number=None), "has no number"),
        (
            signed(entries=[entry(1, NOW - DAY, x509.InvalidityDate(NOW - DAY))]),
            "an entry with extension 2.5.29.24",
        ),
    ],
    ids=["no number", "an entry with more"],
)
def test_refuses_what_no_list_of_ours_has(crl: x509.CertificateRevocationList, said: str) -> None:
    with pytest.raises(IssuanceFault, match=said):
        crl_lint.LINT.check(crl, EXPECTED)
