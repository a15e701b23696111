"""Tokens against keys: what proves a caller, and each thing that does not, with its own reason."""

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from identity.unverified import MAXIMUM_BYTES
from meshca.errors import IdentityForbidden, ProofRefused
from meshca.spiffe_id import SpiffeId
from tests.fakes import FakeClock
from tests.identity.builders import (
    ACCOUNT_UID,
    EC_KEY,
    ISSUER,
    POD_UID,
    RSA_KEY,
    FakeSource,
    about,
    claims,
    jwk,
    jwks,
    jwks_world,
    raw_token,
    sign,
    world,
)


def test_a_projected_token_proves_its_pod() -> None:
    w = jwks_world()

    caller = w.authenticate(sign(claims(w.clock)))

    assert caller.spiffe_id == SpiffeId.parse("spiffe://example.org/ns/shop/sa/orders")
    assert caller.expires_at == w.clock.now() + timedelta(seconds=600)
    assert caller.evidence.method == "kubernetes_jwks"
    assert caller.evidence.cluster == "prod-eu"
    assert caller.evidence.issuer == ISSUER
    assert caller.evidence.namespace == "shop"
    assert caller.evidence.service_account == "orders"
    assert caller.evidence.service_account_uid == ACCOUNT_UID
    assert caller.evidence.pod_name == "orders-1"
    assert caller.evidence.pod_uid == POD_UID
    assert caller.evidence.node == "node-1"
    assert caller.evidence.token_id == "9a7b3583-9514-4bd3-aae6-d60758682e56"
    assert w.count("ok") == 1


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSA_KEY, "RS256"),
        (RSA_KEY, "RS384"),
        (RSA_KEY, "RS512"),
        (EC_KEY, "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ec.generate_private_key(ec.SECP521R1()), "ES512"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_algorithm_kubernetes_issues_is_accepted(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, algorithm: str
) -> None:
    w = world(source=FakeSource(jwks(jwk(key, "k", alg=algorithm))))

    token = sign(claims(w.clock), key, kid="k", algorithm=algorithm)

    assert w.authenticate(token).evidence.namespace == "shop"


def test_a_token_without_jti_is_known_by_its_hash() -> None:
    w = jwks_world()

    evidence = w.authenticate(sign(claims(w.clock, jti=None))).evidence

    assert evidence.token_id.startswith("sha256:")
    assert len(evidence.token_id) == len("sha256:") + 32


def test_dotted_service_accounts_and_every_template_field_work() -> None:
    w = jwks_world(identity="spiffe://{trust_domain}/{cluster}/{namespace}/{service_account}")
    account = {"name": "api.v2", "uid": ACCOUNT_UID}
    payload = claims(
        w.clock,
        sub="system:serviceaccount:shop:api.v2",
        **{"kubernetes.io": about(serviceaccount=account)},
    )

    assert (
        str(w.authenticate(sign(payload)).spiffe_id) == "spiffe://example.org/prod-eu/shop/api.v2"
    )


def test_any_of_several_audiences_is_enough() -> None:
    w = jwks_world(audiences=["meshca", "spare"])

    for audience in (["vault", "spare"], "meshca"):
        token = sign(claims(w.clock, aud=audience))
        assert w.authenticate(token).evidence.namespace == "shop"


@dataclass(frozen=True)
class Refusal:
    """A token that is wrong in one way, and the reason it must be refused for."""

    name: str
    reason: str
    token: Callable[[FakeClock], str]


def changed(**changes: Any) -> Callable[[FakeClock], str]:
    """Return a maker of tokens with these claims changed."""
    return lambda clock: sign(claims(clock, **changes))


def kubernetes_io(**changes: Any) -> Callable[[FakeClock], str]:
    """Return a maker of tokens with these members of `kubernetes.io` changed."""
    return changed(**{"kubernetes.io": about(**changes)})


def shifted(name: str, seconds: int) -> Callable[[FakeClock], str]:
    """Return a maker of tokens with one time at `seconds` from now."""
    return lambda clock: sign(claims(clock, **{name: int(clock.now().timestamp()) + seconds}))


def with_header(header: dict[str, Any], signature: bytes = b"x") -> Callable[[FakeClock], str]:
    """Return a maker of good claims under a forged header."""
    return lambda clock: raw_token(json.dumps(header), json.dumps(claims(clock)), signature)


def hs256_with_public_key(clock: FakeClock) -> str:
    """Return the classic forgery: HS256 keyed with the bytes of a public key."""
    secret = RSA_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = raw_token('{"alg":"HS256","kid":"key-2"}', json.dumps(claims(clock))).rsplit(".", 1)[
        0
    ]
    mac = hmac.digest(secret, unsigned.encode(), "sha256")
    return f"{unsigned}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def tampered(clock: FakeClock) -> str:
    """Return a good token whose payload was replaced under its signature."""
    header, _, signature = sign(claims(clock)).split(".")
    other = sign(claims(clock, sub="system:serviceaccount:shop:admin")).split(".")[1]
    return f"{header}.{other}.{signature}"


def duplicate_sub(clock: FakeClock) -> str:
    """Return claims in which two readers could see two subjects."""
    text = json.dumps(claims(clock)).replace('"sub"', '"sub": "system:admin", "sub"', 1)
    return raw_token('{"alg":"ES256","kid":"key-1"}', text)


HEADER = '{"alg":"ES256","kid":"key-1"}'


def with_other_last_bits(clock: FakeClock) -> str:
    """Return a good token whose last character differs in bits that decode to nothing."""
    good = sign(claims(clock))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return good[:-1] + alphabet[alphabet.index(good[-1]) ^ 1]


REFUSALS = [
    Refusal("empty", "malformed", lambda clock: ""),
    Refusal("huge", "too_large", lambda clock: "a" * 1024 * 1024),
    Refusal("one over the limit", "too_large", lambda clock: "a" * (MAXIMUM_BYTES + 1)),
    Refusal("two parts", "malformed", lambda clock: "aaaa.bbbb"),
    Refusal("four parts", "malformed", lambda clock: sign(claims(clock)) + ".x"),
    Refusal("trailing newline", "malformed", lambda clock: sign(claims(clock)) + "\n"),
    Refusal("padding", "malformed", lambda clock: sign(claims(clock)) + "="),
    Refusal("not ASCII", "malformed", lambda clock: "é.é.é"),
    Refusal("lone surrogate", "malformed", lambda clock: "\ud800.a.b"),
    Refusal("header is no JSON", "malformed", lambda clock: raw_token("{", "{}")),
    Refusal("header is a list", "malformed", lambda clock: raw_token("[]", "{}")),
    Refusal("payload is text", "malformed", lambda clock: raw_token(HEADER, '"x"')),
    Refusal("payload is not UTF-8", "malformed", lambda clock: raw_token(HEADER, b"\xff")),
    Refusal("payload is UTF-16", "malformed", lambda c: raw_token(HEADER, "{}".encode("utf-16"))),
    Refusal("NaN", "malformed", lambda clock: raw_token(HEADER, '{"exp": NaN}')),
    Refusal("deep nesting", "malformed", lambda clock: raw_token(HEADER, "[" * 10_000)),
    Refusal("endless number", "malformed", lambda c: raw_token(HEADER, f'{{"a":{"9" * 9_000}}}')),
    Refusal("claim slipped in twice", "bad_signature", duplicate_sub),
    Refusal("none", "wrong_algorithm", with_header({"alg": "none", "kid": "key-1"}, b"")),
    Refusal("None", "wrong_algorithm", with_header({"alg": "None", "kid": "key-1"}, b"")),
    Refusal("no alg", "wrong_algorithm", with_header({"kid": "key-1"})),
    Refusal("alg is a list", "wrong_algorithm", with_header({"alg": ["ES256"], "kid": "key-1"})),
    Refusal("HS256 with the public key", "wrong_algorithm", hs256_with_public_key),
    Refusal("PS256", "wrong_algorithm", lambda c: sign(claims(c), RSA_KEY, algorithm="PS256")),
    Refusal(
        "right key, not its algorithm",
        "wrong_algorithm",
        lambda clock: sign(claims(clock), RSA_KEY, kid="key-2", algorithm="RS512"),
    ),
    Refusal("alg of another type", "wrong_algorithm", lambda c: sign(claims(c), RSA_KEY)),
    Refusal("crit", "malformed", lambda c: sign(claims(c), crit=["b64"])),
    Refusal("b64 not announced", "malformed", with_header({"alg": "ES256", "b64": False})),
    Refusal("empty signature", "bad_signature", lambda c: sign(claims(c)).rpartition(".")[0] + "."),
    Refusal("short signature", "bad_signature", lambda c: sign(claims(c))[:-2]),
    Refusal("bits left over in base64", "malformed", with_other_last_bits),
    Refusal("cut base64", "malformed", lambda c: sign(claims(c))[:-1]),
    Refusal("no kid", "unknown_key", lambda clock: sign(claims(clock), kid=None)),
    Refusal("kid is a number", "unknown_key", with_header({"alg": "ES256", "kid": 1})),
    Refusal("kid is a path", "unknown_key", lambda c: sign(claims(c), kid="../../etc/passwd")),
    Refusal("kid is a URL", "unknown_key", lambda c: sign(claims(c), kid="http://evil.test/jwks")),
    Refusal(
        "signed by another key",
        "bad_signature",
        lambda clock: sign(claims(clock), ec.generate_private_key(ec.SECP256R1())),
    ),
    Refusal("payload replaced", "bad_signature", tampered),
    Refusal("no signature", "bad_signature", lambda c: sign(claims(c)).rsplit(".", 1)[0] + "."),
    Refusal(
        "crit we do not know",
        "malformed",
        with_header({"alg": "ES256", "kid": "key-1", "crit": ["x"]}),
    ),
    Refusal("issuer unknown", "unknown_issuer", changed(iss="https://other.example.org")),
    Refusal("issuer missing", "unknown_issuer", changed(iss=None)),
    Refusal("issuer is a list", "unknown_issuer", changed(iss=[ISSUER])),
    Refusal("issuer with a slash", "unknown_issuer", changed(iss=ISSUER + "/")),
    Refusal("legacy: no aud", "missing_claim", changed(aud=None)),
    Refusal("legacy: no exp", "missing_claim", changed(exp=None)),
    Refusal("no iat", "missing_claim", changed(iat=None)),
    Refusal("no nbf", "missing_claim", changed(nbf=None)),
    Refusal("no sub", "missing_claim", changed(sub=None)),
    Refusal("no kubernetes.io", "missing_claim", changed(**{"kubernetes.io": None})),
    Refusal("no namespace", "missing_claim", kubernetes_io(namespace=None)),
    Refusal("no service account", "missing_claim", kubernetes_io(serviceaccount=None)),
    Refusal("pod without UID", "missing_claim", kubernetes_io(pod={"name": "orders-1"})),
    Refusal("another audience", "wrong_audience", changed(aud=["vault"])),
    Refusal("audience in other case", "wrong_audience", changed(aud=["MESHCA"])),
    Refusal("no audience in the list", "wrong_audience", changed(aud=[])),
    Refusal("audience is a number", "malformed", changed(aud=5)),
    Refusal("expired, past the leeway", "expired", shifted("exp", -10)),
    Refusal("not valid before 11 s", "not_yet_valid", shifted("nbf", 11)),
    Refusal("issued in 11 s", "issued_in_future", shifted("iat", 11)),
    Refusal("exp is text", "malformed", changed(exp="4102444800")),
    Refusal("exp is true", "malformed", changed(exp=True)),
    Refusal("exp is a fraction", "malformed", changed(exp=4102444800.5)),
    Refusal("exp beyond time", "malformed", changed(exp=10**18)),
    Refusal("exp is negative", "malformed", changed(exp=-1)),
    Refusal(
        "sub names another account",
        "subject_mismatch",
        changed(sub="system:serviceaccount:shop:admin"),
    ),
    Refusal("sub of a person", "subject_mismatch", changed(sub="system:admin")),
    Refusal("namespace not in sub", "subject_mismatch", kubernetes_io(namespace="bank")),
    Refusal("namespace with a slash", "malformed", kubernetes_io(namespace="shop/../bank")),
    Refusal("namespace with a newline", "malformed", kubernetes_io(namespace="shop\n")),
    Refusal("namespace of 64", "malformed", kubernetes_io(namespace="a" * 64)),
    Refusal("namespace is a list", "malformed", kubernetes_io(namespace=["shop"])),
    Refusal("kubernetes.io is text", "malformed", changed(**{"kubernetes.io": "shop"})),
    Refusal(
        "account in capitals",
        "malformed",
        kubernetes_io(serviceaccount={"name": "Orders", "uid": ACCOUNT_UID}),
    ),
    Refusal(
        "account of dots",
        "malformed",
        kubernetes_io(serviceaccount={"name": "..", "uid": ACCOUNT_UID}),
    ),
    Refusal("pod with a space", "malformed", kubernetes_io(pod={"name": "a b", "uid": POD_UID})),
    Refusal("node is text", "malformed", kubernetes_io(node="node-1")),
    Refusal("bound to no pod", "unbound", kubernetes_io(pod=None)),
    Refusal(
        "bound to a Secret",
        "unbound",
        kubernetes_io(pod=None, secret={"name": "orders-token", "uid": POD_UID}),
    ),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name)
def test_refuses(refusal: Refusal) -> None:
    w = jwks_world()

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(refusal.token(w.clock))

    assert refused.value.reason == refusal.reason
    assert w.count(refusal.reason) == 1
    assert w.count("ok") == 0


def test_what_was_claimed_is_kept_for_the_audit_log_but_clipped() -> None:
    w = jwks_world()
    token = sign(claims(w.clock, aud=["x" * 1000], jti="a\nb"))

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(token)

    claimed = refused.value.claimed
    assert claimed["sub"] == "system:serviceaccount:shop:orders"
    assert claimed["pod"] == "orders-1"
    assert claimed["pod_uid"] == POD_UID
    assert len(claimed["aud"]) <= 257
    assert token not in str(refused.value)
    assert "claimed" not in refused.value.public_message


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_ten_seconds_of_clock_difference_are_forgiven(name: str) -> None:
    w = jwks_world()
    seconds = -9 if name == "exp" else 10

    assert w.authenticate(shifted(name, seconds)(w.clock)).evidence.namespace == "shop"


def test_time_is_the_injected_clocks() -> None:
    past = FakeClock(at=datetime(2001, 1, 1, tzinfo=UTC))
    w = jwks_world(clock=past)

    assert w.authenticate(sign(claims(past))).expires_at.year == 2001


def test_unbound_tokens_count_where_the_cluster_says_so() -> None:
    w = jwks_world(allow={"namespaces": ["*"], "unbound_tokens": True})

    caller = w.authenticate(kubernetes_io(pod=None, node=None)(w.clock))

    assert caller.evidence.pod_uid == ""
    assert caller.holder.endswith(caller.evidence.token_id)


@pytest.mark.parametrize(
    ("namespaces", "allowed"),
    [
        (["*"], True),
        (["shop"], True),
        (["bank", "sh*"], True),
        (["shop*"], True),
        (["bank"], False),
        (["shopping"], False),
        (["sho"], False),
        (["shop-*"], False),
    ],
)
def test_the_allow_list_is_by_namespace(namespaces: list[str], allowed: bool) -> None:
    w = jwks_world(allow={"namespaces": namespaces})
    token = sign(claims(w.clock))

    if allowed:
        assert w.authenticate(token).evidence.namespace == "shop"
        return
    with pytest.raises(IdentityForbidden) as forbidden:
        w.authenticate(token)
    assert forbidden.value.reason == "namespace_not_allowed"
    assert forbidden.value.claimed["sub"] == "system:serviceaccount:shop:orders"


def test_a_name_too_long_for_a_spiffe_id_gets_none() -> None:
    w = jwks_world(identity="spiffe://{trust_domain}/" + "{namespace}/{service_account}/" * 8 + "x")
    name = "a" * 253
    payload = claims(
        w.clock,
        sub=f"system:serviceaccount:shop:{name}",
        **{"kubernetes.io": about(serviceaccount={"name": name, "uid": ACCOUNT_UID})},
    )

    with pytest.raises(IdentityForbidden) as forbidden:
        w.authenticate(sign(payload))

    assert forbidden.value.reason == "no_identity"


def test_a_refused_token_never_reaches_the_cache() -> None:
    w = jwks_world()
    token = sign(claims(w.clock, nbf=int(w.clock.now().timestamp()) + 30))

    with pytest.raises(ProofRefused):
        w.authenticate(token)
    w.clock.advance(timedelta(seconds=30))

    assert w.authenticate(token).evidence.namespace == "shop"
    assert w.count("ok", "hit") == 0
