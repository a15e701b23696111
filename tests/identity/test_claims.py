"""Claims by themselves: what holds even if whoever vouched for the token had not looked."""

from typing import Any

import pytest

from identity.claims import Expected, check_audience, read_evidence
from meshca.errors import ProofRefused
from tests.fakes import FakeClock
from tests.identity.builders import ISSUER, about, claims

EXPECTED = Expected(
    cluster="prod-eu",
    issuer=ISSUER,
    audiences=frozenset({"meshca"}),
    unbound_tokens=False,
    method="kubernetes_jwks",
)


def reason(**changes: Any) -> str:
    """Return the reason that claims with `changes` are refused for."""
    with pytest.raises(ProofRefused) as refused:
        read_evidence(claims(FakeClock(), **changes), EXPECTED, "00" * 32)
    return refused.value.reason


def test_the_issuer_is_compared_whole() -> None:
    assert reason(iss=ISSUER + ".evil.test") == "unknown_issuer"
    assert reason(iss=None) == "missing_claim"


def test_an_accepted_audience_is_compared_whole() -> None:
    for audience in ("mesh", "meshca2", ["meshca "], ["other"]):
        with pytest.raises(ProofRefused) as refused:
            check_audience({"aud": audience}, EXPECTED.audiences)
        assert refused.value.reason == "wrong_audience"


def test_no_audience_accepted_accepts_none() -> None:
    with pytest.raises(ProofRefused):
        check_audience({"aud": ["meshca"]}, frozenset())


@pytest.mark.parametrize("member", ["namespace", "serviceaccount", "pod"])
def test_what_is_there_but_null_is_missing(member: str) -> None:
    payload = {**about(), member: None}

    assert reason(**{"kubernetes.io": payload}) == "missing_claim"


@pytest.mark.parametrize(
    ("jti", "known_as"),
    [("an-id", "an-id"), (None, "sha256:" + "0" * 32), ("a\nb", "sha256:" + "0" * 32)],
)
def test_a_token_is_known_by_its_jti_or_its_hash(jti: str | None, known_as: str) -> None:
    evidence = read_evidence(claims(FakeClock(), jti=jti), EXPECTED, "00" * 32)

    assert evidence.token_id == known_as
