"""What loading warns of, and what it does not."""

from typing import Any

import pytest

from tests.authz.builders import document, load, rule
from tests.authz.test_load_peers import ORDERS, peers
from tests.authz.test_load_requests import requests
from tests.authz.test_load_requests import rule as jwt_rule


def policy(rules: list[Any], action: str = "ALLOW", **more: Any) -> dict[str, Any]:
    return document("p", action=action, rules=rules, **more)


def when(key: str, *values: str) -> list[dict[str, Any]]:
    return [{"when": [{"key": key, "values": list(values)}]}]


NAMES = rule({"namespaces": ["shop"]})
OPEN = peers(mtls={"mode": "PERMISSIVE"})
STRICT = peers("mesh", "meshca", mtls={"mode": "STRICT"})
WARNINGS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "exact path denied": (
        [policy([rule(None, {"paths": ["/admin"]})], "DENY")],
        "denies exactly /admin, not /admin/, /admin;x or another case of its letters",
    ),
    "deny of a method": (
        [policy([rule(None, {"methods": ["GET"]})], "DENY")],
        "on TCP connections methods, paths, hosts, headers and tokens do not exist",
    ),
    "deny of a method at some ports": (
        [
            policy(
                [
                    {
                        "to": [
                            {"operation": {"methods": ["GET"]}},
                            {"operation": {"ports": ["80"]}},
                        ]
                    }
                ],
                "DENY",
            )
        ],
        "name the ports of HTTP",
    ),
    "exact host denied": (
        [policy([rule(None, {"hosts": ["orders.shop"]})], "DENY")],
        "not orders.shop with a port; add orders.shop:*",
    ),
    "exact header": (
        [policy(when("request.headers[x-role]", "admin"))],
        "request.headers[x-role] is compared as a whole, several lines joined by commas",
    ),
    "cluster.local": (
        [policy([rule({"principals": ["cluster.local/ns/a/sa/b"]})])],
        "cluster.local is taken for our trust domain, as in Istio; write example.org",
    ),
    "foreign principal": (
        [policy([rule({"principals": ["partner.test/ns/a/sa/b"]})])],
        "names peers of partner.test, which is not our trust domain example.org",
    ),
    "foreign trust domain": (
        [policy([rule({"notTrustDomains": ["cluster.local"]})])],
        "names peers of cluster.local, which is not our trust domain example.org",
    ),
    "plaintext evades a deny": (
        [policy([NAMES], "DENY"), OPEN],
        "plaintext evades this DENY: a caller without an identity is none of its namespaces",
    ),
    "plaintext evades a deny at one port": (
        [
            policy([NAMES], "DENY"),
            STRICT,
            peers(selector=ORDERS, portLevelMtls={"80": {"mode": "DISABLE"}}),
        ],
        "plaintext evades this DENY",
    ),
    "plaintext evades a deny of the mesh": (
        [document("p", "meshca", action="DENY", rules=[NAMES]), STRICT, OPEN],
        "plaintext evades this DENY",
    ),
    "plaintext evades a condition": (
        [
            policy([rule({"notNamespaces": ["a"]}) | when("source.namespace", "b")[0]], "DENY"),
            OPEN,
        ],
        "is none of its source.namespace",
    ),
    "negated identity on an open port": (
        [policy([rule({"notNamespaces": ["shop"]})]), OPEN],
        "a caller in plaintext never satisfies notNamespaces",
    ),
    "identity on an open port": (
        [policy([NAMES]), OPEN],
        "a caller in plaintext never satisfies namespaces",
    ),
    "token without anybody to trust": (
        [policy([rule({"requestPrincipals": ["*"]})])],
        "requestPrincipals looks at a token, but no RequestAuthentication can select",
    ),
    "token that others trust": (
        [
            policy(when("request.auth.claims[groups]", "a"), selector={"app": "orders"}),
            requests(jwt_rule(), selector={"matchLabels": {"app": "payments"}}),
            requests(jwt_rule(), namespace="other"),
        ],
        "request.auth.claims[groups] looks at a token",
    ),
}


@pytest.mark.parametrize(("documents", "message"), WARNINGS.values(), ids=WARNINGS)
def test_warns_of_what_is_easily_misread(documents: list[dict[str, Any]], message: str) -> None:
    (warning,) = [str(each) for each in load(*documents).warnings if message in str(each)]
    assert "spec.rules[0]" in warning
    assert "policy.yaml:" in warning


QUIET: dict[str, list[dict[str, Any]]] = {
    "plain allow": [policy([rule({"namespaces": ["shop"]}, {"paths": ["/admin"]})])],
    "deny by identity under STRICT": [policy([NAMES], "DENY"), STRICT],
    "deny by identity without any mode": [policy([NAMES], "DENY")],
    "deny by what somebody is not": [policy([rule({"notNamespaces": ["shop"]})], "DENY"), OPEN],
    "deny that one source holds for in plaintext": [
        policy(
            [{"from": [{"source": {"namespaces": ["a"]}}, {"source": {"ipBlocks": ["::1"]}}]}],
            "DENY",
        ),
        OPEN,
    ],
    "deny of a method at the ports of HTTP": [
        policy([rule(None, {"methods": ["GET"], "ports": ["80"]})], "DENY")
    ],
    "deny of a port": [policy([rule(None, {"ports": ["80"]})], "DENY")],
    "header prefix": [policy(when("request.headers[x-role]", "admin*"))],
    "token that is trusted": [
        policy([rule({"requestPrincipals": ["*"]})], selector={"app": "orders"}),
        requests(jwt_rule(), namespace="meshca", selector={"matchLabels": {"version": "v1"}}),
    ],
    "token in a policy of the mesh": [
        document("p", "meshca", rules=[rule({"requestPrincipals": ["*"]})]),
        requests(jwt_rule(), namespace="other"),
    ],
}


@pytest.mark.parametrize("documents", QUIET.values(), ids=QUIET)
def test_does_not_warn_of_what_does_what_it_says(documents: list[dict[str, Any]]) -> None:
    assert not load(*documents).warnings


def test_warns_of_a_template_whose_rest_is_never_nothing() -> None:
    denied = rule(None, {"paths": ["/x/{**}/y"]})
    warnings = [str(each) for each in load(policy([denied], "DENY")).warnings]
    assert any("denies /x/{**}/y, but not /x/y" in warning for warning in warnings)
    assert not load(policy([denied])).warnings


def test_warns_of_what_names_only_one_of_our_trust_domains() -> None:
    prefix = policy([rule({"principals": ["example.org/ns/shop/*"]})])
    (warning,) = load(prefix, aliases=["old.example"]).warnings
    assert "names peers of example.org only, not of old.example" in str(warning)
    assert not load(prefix).warnings


def test_a_host_that_is_denied_with_every_port_is_no_finding() -> None:
    denied = rule(None, {"hosts": ["orders.shop", "orders.shop:*"]})
    warnings = [str(each) for each in load(policy([denied], "DENY")).warnings]
    assert not any("exactly the host" in warning for warning in warnings)


@pytest.mark.parametrize(
    "text", ["/api/.*", "/a[0-9]", "/(a|b)", "^/api", "/api$", r"/a\d", "/a.+"]
)
def test_warns_of_what_looks_like_a_regular_expression(text: str) -> None:
    documents = [policy(when("request.headers[x-path]", text))]
    found = [str(each) for each in load(*documents).warnings]
    assert any("is compared as it is: no regular expressions" in each for each in found)


@pytest.mark.parametrize("text", ["/api/v1.0", "a[b]", "(x)", "$1.50", "a^b", "a|b", "*.json"])
def test_does_not_take_every_odd_character_for_a_regular_expression(text: str) -> None:
    documents = [policy(when("request.headers[x-path]", text))]
    assert not any("regular" in str(each) for each in load(*documents).warnings)
