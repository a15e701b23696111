"""People by their tokens: what is accepted, and each refusal for its own reason only."""

import asyncio
import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from identity.oidc import Person, build_oidc
from meshca.errors import KeysUnavailable, ProofRefused
from meshca.settings_admin import Jwks, Oidc
from tests.fakes import FakeClock
from tests.identity.builders import EC_KEY, RSA_KEY, jwk, jwks

ISSUER, AUDIENCE = "https://idp.test/realm", "meshca"


def claims(clock: FakeClock, **changes: Any) -> dict[str, Any]:
    """Return the claims of ann's token; None drops one."""
    now = int(clock.now().timestamp())
    standard = {
        "iss": ISSUER,
        "sub": "a1b2",
        "aud": AUDIENCE,
        "exp": now + 600,
        "iat": now,
        "email": "ann@example.org",
        "groups": ["mesh", "auditors"],
        "jti": "t-1",
    }
    return {name: value for name, value in {**standard, **changes}.items() if value is not None}


def token(payload: Mapping[str, Any], key: Any = EC_KEY, **header: Any) -> str:
    """Return `payload` signed by the issuer."""
    algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
    return jwt.encode(dict(payload), key, algorithm, {"kid": "one", **header})


def verify(tmp_path: Path, text: str, clock: FakeClock, **changes: Any) -> Person:
    """Return who `text` proves, under the standard configuration with `changes`."""
    path = tmp_path / "jwks.json"
    path.write_bytes(jwks(jwk(EC_KEY, "one"), jwk(RSA_KEY, "rsa")))
    values = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": Jwks.model_construct(file=path)}
    settings = Oidc.model_construct(**{**values, **changes})
    return asyncio.run(build_oidc(settings, clock=clock).verify(text))


def test_a_token_proves_its_person(tmp_path: Path) -> None:
    clock = FakeClock()
    person = verify(tmp_path, token(claims(clock)), clock)
    assert (person.username, person.subject, person.token_id) == ("a1b2", "a1b2", "t-1")
    assert person.groups == {"mesh", "auditors"}
    assert person.expires_at == clock.now() + timedelta(seconds=600)


def test_the_claim_that_names_people_is_configured(tmp_path: Path) -> None:
    clock = FakeClock()
    text = token(claims(clock, email_verified=True), RSA_KEY, kid="rsa")
    assert verify(tmp_path, text, clock, username_claim="email").username == "ann@example.org"


def test_one_group_may_be_text_and_none_may_be_missing(tmp_path: Path) -> None:
    clock = FakeClock()
    assert verify(tmp_path, token(claims(clock, groups="mesh")), clock).groups == {"mesh"}
    assert verify(tmp_path, token(claims(clock, groups=None)), clock).groups == frozenset()


def test_ids_that_are_none_become_the_hash(tmp_path: Path) -> None:
    clock = FakeClock()
    person = verify(tmp_path, token(claims(clock, jti="with space")), clock)
    assert person.token_id.startswith("sha256:")


NOW = int(FakeClock().now().timestamp())
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("unknown_issuer", {"iss": "https://evil.test"}),
    ("unknown_issuer", {"iss": None}),
    ("wrong_audience", {"aud": "another"}),
    ("wrong_audience", {"aud": ["another", "meshca-2"]}),
    ("missing_claim", {"aud": None}),
    ("missing_claim", {"exp": None}),
    ("missing_claim", {"iat": None}),
    ("missing_claim", {"sub": None}),
    ("expired", {"exp": NOW - 11}),
    ("issued_in_future", {"iat": NOW + 60}),
    ("not_yet_valid", {"nbf": NOW + 60}),
    ("malformed", {"nbf": "soon"}),
    ("malformed", {"exp": True}),
    ("lives_too_long", {"exp": NOW + 7 * 86_400}),
    ("malformed", {"sub": ""}),
    ("malformed", {"sub": "ann\n"}),
    ("malformed", {"sub": " ann"}),
    ("malformed", {"sub": "a" * 257}),
    ("malformed", {"sub": 7}),
    ("malformed", {"groups": {"mesh": True}}),
    ("malformed", {"groups": ["mesh", 1]}),
    ("malformed", {"groups": ["g"] * 1_001}),
]


@pytest.mark.parametrize(("reason", "changes"), REFUSED, ids=[f"{r} {c}"[:60] for r, c in REFUSED])
def test_refuses(tmp_path: Path, reason: str, changes: dict[str, Any]) -> None:
    clock = FakeClock()
    maximum = {"maximum_lifetime": timedelta(days=1)}
    with pytest.raises(ProofRefused) as caught:
        verify(tmp_path, token(claims(clock, **changes)), clock, **maximum)
    assert caught.value.reason == reason


@pytest.mark.parametrize("said", [False, None, "true", 1])
def test_an_address_that_is_not_verified_names_nobody(tmp_path: Path, said: object) -> None:
    clock = FakeClock()
    text = token(claims(clock, email_verified=said))
    with pytest.raises(ProofRefused) as caught:
        verify(tmp_path, text, clock, username_claim="email")
    assert caught.value.reason == "unverified_email"


def unsigned(payload: Mapping[str, Any], **header: Any) -> str:
    """Return a token with a header of the attacker's and no signature."""
    parts = [json.dumps(part).encode() for part in ({"kid": "one", **header}, payload)]
    return ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts) + "."


@pytest.mark.parametrize("algorithm", ["none", "None", "HS256", "EdDSA", 7])
def test_only_asymmetric_algorithms_count(tmp_path: Path, algorithm: Any) -> None:
    clock = FakeClock()
    with pytest.raises(ProofRefused) as caught:
        verify(tmp_path, unsigned(claims(clock), alg=algorithm), clock)
    assert caught.value.reason == "wrong_algorithm"


def test_a_key_verifies_its_own_algorithm_only(tmp_path: Path) -> None:
    clock = FakeClock()
    with pytest.raises(ProofRefused) as caught:
        verify(tmp_path, token(claims(clock), RSA_KEY, kid="one"), clock)
    assert caught.value.reason == "wrong_algorithm"


def test_another_key_is_no_proof(tmp_path: Path) -> None:
    clock = FakeClock()
    stranger = ec.generate_private_key(ec.SECP256R1())
    for kid, reason in (("one", "bad_signature"), ("../one", "unknown_key")):
        with pytest.raises(ProofRefused) as caught:
            verify(tmp_path, token(claims(clock), stranger, kid=kid), clock)
        assert caught.value.reason == reason


def test_a_change_anywhere_is_refused(tmp_path: Path) -> None:
    clock = FakeClock()
    header, _, signature = token(claims(clock)).split(".")
    other = token(claims(clock, sub="root")).split(".")[1]
    with pytest.raises(ProofRefused) as caught:
        verify(tmp_path, f"{header}.{other}.{signature}", clock)
    assert caught.value.reason == "bad_signature"


def test_without_keys_nobody_is_proven(tmp_path: Path) -> None:
    clock = FakeClock()
    missing = Jwks.model_construct(file=tmp_path / "none.json")
    with pytest.raises(KeysUnavailable):
        verify(tmp_path, token(claims(clock)), clock, jwks=missing)


def test_what_was_claimed_is_told_and_the_token_is_not(tmp_path: Path) -> None:
    clock = FakeClock()
    text = token(claims(clock, aud="another"))
    with pytest.raises(ProofRefused) as caught:
        verify(tmp_path, text, clock)
    assert caught.value.claimed["sub"] == "a1b2"
    assert text.split(".")[2] not in repr(caught.value.claimed) + str(caught.value)
