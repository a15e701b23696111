"""Loading RequestAuthentication: issuers, keys, where tokens are, and what is passed on."""

from typing import Any

import pytest

from authz.request_authentication import FromHeader, JwtRule, RequestAuthentication
from authz.workload import GATEWAY_LABEL, Workload
from meshca.errors import InvalidDocument
from tests.authz.builders import load

ISSUER = "https://issuer.test"
KEYS = '{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}'


def requests(
    *rules: Any,
    name: str = "web",
    namespace: str = "shop",
    annotations: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1beta1",
        "kind": "RequestAuthentication",
        "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        "spec": {**({"jwtRules": list(rules)} if rules else {}), **spec},
    }


def rule(**override: Any) -> dict[str, Any]:
    return {"issuer": ISSUER, **override}


def loaded(**override: Any) -> JwtRule:
    (document,) = load(requests(rule(**override))).request_authentications
    return document.rules[0]


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "no rules": (requests(), "without jwtRules it says nothing"),
    "empty rules": (requests(jwtRules=[]), "spec.jwtRules: an empty list says nothing"),
    "null rule": (requests(None), "spec.jwtRules[0]: missing or empty"),
    "no issuer": (requests({}), "issuer is missing"),
    "empty issuer": (requests({"issuer": ""}), "issuer: must be one line of text"),
    "issuer of two lines": (requests({"issuer": "a\nb"}), "issuer: must be one line of text"),
    "unknown field": (requests(rule(audience=["a"])), "did you mean audiences?"),
    "older spelling": (requests(rule(jwks_uri="https://a/b")), "jwks_uri: write jwksUri"),
    "claims to split": (requests(rule(spaceDelimitedClaims=["x"])), "scope and permission are"),
    "empty audiences": (requests(rule(audiences=[])), "audiences: an empty list says nothing"),
    "audience that is empty": (requests(rule(audiences=[""])), "audiences[0]: must be one line"),
    "both keys": (requests(rule(jwks=KEYS, jwksUri="https://a/b")), "cannot stand beside jwks"),
    "keys that are no JSON": (requests(rule(jwks="{")), "is not JSON"),
    "keys as a mapping": (requests(rule(jwks={"keys": []})), "jwks: must be text"),
    "no keys": (requests(rule(jwks='{"keys": []}')), "has no keys"),
    "keys that are no set": (requests(rule(jwks="[]")), "is not a key set"),
    "private key": (
        requests(rule(jwks='{"keys": [{"kty": "EC", "d": "secret"}]}')),
        "holds a secret or a private key",
    ),
    "file": (requests(rule(jwksUri="file:///keys")), "write https://HOST/PATH"),
    "port of an address": (requests(rule(jwksUri="https://a:x/")), "write https://HOST/PATH"),
    "header name": (requests(rule(fromHeaders=[{"name": "a b"}])), "is not the name of a header"),
    "header without a name": (requests(rule(fromHeaders=[{}])), "name: must be text"),
    "header as text": (requests(rule(fromHeaders=["a"])), "fromHeaders[0]: must be a mapping"),
    "empty parameters": (requests(rule(fromParams=[])), "fromParams: an empty list"),
    "empty cookie": (requests(rule(fromCookies=[""])), "fromCookies[0]: must be one line"),
    "flag as text": (requests(rule(forwardOriginalToken="yes")), "write true or false"),
    "payload header": (requests(rule(outputPayloadToHeader="a:b")), "is not the name of a header"),
    "claim header": (
        requests(rule(outputClaimToHeaders=[{"header": "x-a"}])),
        "outputClaimToHeaders[0].claim: must be text",
    ),
    "no duration": (requests(rule(timeout="soon")), "'soon' is not a duration"),
    "no time at all": (requests(rule(timeout="0s")), "'0s' is not a duration"),
    "duration as a number": (requests(rule(timeout=5)), "5 is not a duration"),
    "stage": (requests(rule(), annotations={"meshca.io/stage": "draft"}), "has no stages"),
    "service": (
        requests(rule(), targetRefs=[{"kind": "Service", "name": "web"}]),
        "Service is not a target",
    ),
}


@pytest.mark.parametrize(("document", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refuses_a_request_authentication(document: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load(document)
    (problem,) = caught.value.problems
    assert message in str(problem)
    assert "secret" not in str(problem).replace("a secret or", "")


def test_reads_every_field() -> None:
    assert loaded(
        audiences=["a", "b"],
        jwks=KEYS,
        fromHeaders=[{"name": "X-Token", "prefix": "Bearer "}, {"name": "x-other"}],
        fromParams=["token"],
        fromCookies=["session"],
        forwardOriginalToken=True,
        outputPayloadToHeader="X-Payload",
        outputClaimToHeaders=[{"header": "X-Sub", "claim": "sub"}],
        timeout="1m1.5s",
    ) == JwtRule(
        issuer=ISSUER,
        audiences=("a", "b"),
        jwks=KEYS,
        headers=(FromHeader("x-token", "Bearer "), FromHeader("x-other")),
        params=("token",),
        cookies=("session",),
        forward=True,
        payload_header="x-payload",
        claim_headers=(("x-sub", "sub"),),
        timeout_seconds=61.5,
    )


def test_what_is_not_said_is_as_in_istio() -> None:
    assert loaded() == JwtRule(issuer=ISSUER, timeout_seconds=5.0)
    assert loaded(jwksUri="https://issuer.test:8443/keys").jwks_uri.endswith("/keys")
    assert loaded(timeout="500ms").timeout_seconds == 0.5


def test_applies_by_selector_namespace_and_gateway() -> None:
    gateway = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}
    policies = load(
        requests(rule(), name="mesh", namespace="meshca"),
        requests(rule(), name="orders", selector={"matchLabels": {"app": "orders"}}),
        requests(rule(), name="public", targetRef=gateway),
        requests(rule(), name="far", namespace="meshca", targetRef=gateway),
    )

    def names(workload: Workload) -> list[str]:
        found: tuple[RequestAuthentication, ...] = policies.request_authentications_for(workload)
        return [each.name for each in found]

    assert names(Workload("shop", {"app": "orders"})) == ["mesh", "orders"]
    assert names(Workload("shop", {GATEWAY_LABEL: "public"})) == ["mesh", "public"]
    assert names(Workload("shop-2")) == ["mesh"]


def test_warns_of_keys_that_can_be_exchanged() -> None:
    (warning,) = load(requests(rule(jwksUri="http://issuer.test/keys"))).warnings
    assert "write https" in str(warning)


WRITES = rule(outputClaimToHeaders=[{"header": "x-role", "claim": "role"}])
SECOND = rule(issuer="https://second.test")


@pytest.mark.parametrize(
    "documents",
    [
        [requests(WRITES, SECOND)],
        [requests(WRITES), requests(SECOND, name="second")],
        [requests(WRITES), requests(SECOND, name="second", namespace="meshca")],
    ],
    ids=["in one document", "in one namespace", "for the whole mesh"],
)
def test_a_header_made_of_a_token_is_refused_beside_another_issuer(documents: list[Any]) -> None:
    with pytest.raises(InvalidDocument, match="safe with one issuer only"):
        load(*documents)


def test_a_header_made_of_a_token_is_fine_where_no_other_issuer_can_be() -> None:
    apart = [{"matchLabels": {"app": name}} for name in ("orders", "payments")]
    load(
        requests(WRITES, selector=apart[0]),
        requests(SECOND, name="second", selector=apart[1]),
        requests(SECOND, name="third", namespace="stock"),
    )
