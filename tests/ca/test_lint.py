"""Every rule of lint has certificates that break it and nothing else."""

from datetime import timedelta

import pytest

from ca import der, lint
from ca.lint import RULES, Expectation
from meshca.errors import IssuanceFault
from tests.builders import NOW, make_pki
from tests.ca.broken_rules import broken_rules
from tests.ca.leaves import Leaf, expected, with_part
from tests.ca.lint_cases import BAD, GOOD, OTHER_NAME

CASES = [(rule, name) for rule, cases in BAD.items() for name in cases]


def broken(certificate: bytes, expectation: Expectation) -> list[str]:
    """Return the names of the rules that lint finds broken."""
    return broken_rules(lambda: lint.check(certificate, expectation))


@pytest.mark.parametrize("name", GOOD)
def test_accepts(name: str) -> None:
    assert broken(*GOOD[name]) == []


@pytest.mark.parametrize(("rule", "name"), CASES, ids=[f"{r}-{n}" for r, n in CASES])
def test_only_this_rule_is_broken(rule: str, name: str) -> None:
    assert broken(*BAD[rule][name]) == [rule]


def test_every_rule_has_a_certificate_that_breaks_only_it() -> None:
    # cryptography parses version 1 and 3 only, and version 1 has no extensions to parse.
    assert set(BAD) | {"version_is_3"} == {rule.__name__ for rule in RULES}


def test_every_rule_says_where_it_comes_from() -> None:
    for rule in RULES:
        assert any(
            source in (rule.__doc__ or "")
            for source in ("RFC ", "X509-SVID ", "Invariant ", "invariant ", "Profile", "profile")
        )


def test_says_everything_that_is_wrong() -> None:
    leaf = Leaf(serial=7, subject=OTHER_NAME, not_after=NOW + timedelta(days=3)).der()
    wrong = ["serial_is_random_and_fits", "validity_is_short", "subject_is_empty"]
    assert broken(leaf, expected()) == wrong


@pytest.mark.parametrize(
    "certificate",
    [b"", b"\x30", b"\x30\x80", Leaf().der()[:-1], Leaf().der() + b"\x00", bytes(600)],
    ids=["empty", "cut off", "indefinite length", "short", "long", "zeros"],
)
def test_refuses_what_is_no_certificate(certificate: bytes) -> None:
    with pytest.raises(IssuanceFault, match="does not parse"):
        lint.check(certificate, expected())


def test_refuses_an_extension_given_twice() -> None:
    parts = der.items(der.items(Leaf().der())[0])
    (extensions,) = der.items(parts[7])
    first, *others = der.items(extensions)
    twice = der.encode(0xA3, der.encode(0x30, first, first, *others))
    with pytest.raises(IssuanceFault, match="does not parse: Duplicate"):
        lint.check(with_part(Leaf().der(), 7, twice), expected())


def test_refuses_a_part_more_or_less() -> None:
    tbs, *rest = der.items(Leaf().der())
    parts = der.items(tbs)
    unique_id = b"\x81\x02\x00\x01"
    for changed in ([*parts[:7], unique_id, parts[7]], parts[:7], parts[1:]):
        certificate = der.encode(0x30, der.encode(0x30, *changed), *rest)
        with pytest.raises(IssuanceFault, match="does not parse"):
            lint.check(certificate, expected())


def test_refuses_another_version() -> None:
    for version in ("a003020101", "a003020103", "a003020100"):
        certificate = with_part(Leaf().der(), 0, bytes.fromhex(version))
        with pytest.raises(IssuanceFault, match=r"does not parse|version_is_3"):
            lint.check(certificate, expected())


def test_refuses_a_negative_serial() -> None:
    certificate = with_part(Leaf().der(), 1, b"\x02\x10" + b"\xff" * 16)
    with pytest.raises(IssuanceFault, match="serial"):
        lint.check(certificate, expected())


def test_a_leaf_longer_than_its_authority_is_refused_whoever_asked() -> None:
    short = make_pki(lifetime=timedelta(minutes=30)).authority()
    leaf = Leaf().der()
    assert broken(leaf, expected()) == []
    assert broken(leaf, expected(authority=short)) == ["validity_is_inside_the_chain"]
