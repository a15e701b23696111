"""The compiled filters as messages: always rules, whole identities, the same bytes."""

from itertools import islice
from random import Random
from typing import Any

import pytest
from google.protobuf import json_format

from authz.attributes import TOKEN, Attribute
from authz.compile import (
    DEFAULT_ALLOW,
    DEFAULT_DENY,
    EMERGENCY_BYPASS,
    NOT_MUTUAL_TLS,
    SEVERAL_URI_SANS,
    SHADOW_STAT_PREFIX,
    STAT_PREFIX,
    http_rbac,
    needs_check,
    network_rbac,
    to_any,
)
from authz.engine import WorkloadPolicies, compile_workload
from authz.overlay import Bypass, Overlay
from authz.policy import PolicySet
from authz.term_predicates import COMPARED
from tests.authz.agreement import make_worlds
from tests.authz.builders import ORDERS, document, load, rule
from tests.authz.proxy import Ports
from tests.authz.world import ALIAS, load_world

PORTS = Ports(8080, 8081, 8082)


def both(policies: PolicySet) -> list[Any]:
    """Return the HTTP and the network filter of a workload."""
    compiled = compile_workload(policies, ORDERS)
    return [http_rbac(compiled), network_rbac(compiled)]


@pytest.mark.parametrize("default", ["allow", "deny"])
def test_no_policy_still_has_a_matcher_with_the_default(default: Any) -> None:
    names = {"allow": DEFAULT_ALLOW, "deny": DEFAULT_DENY}
    for mutual_tls in (True, False):
        compiled = compile_workload(load(default=default), ORDERS)
        for message in (
            http_rbac(compiled, mutual_tls=mutual_tls),
            network_rbac(compiled, mutual_tls=mutual_tls),
        ):
            assert message.matcher.on_no_match.action.name == names[default]
            assert not message.HasField("rules")


def test_default_allow_holds_only_without_an_allow_policy() -> None:
    for message in both(load(document("nothing"), default="allow")):
        assert message.matcher.on_no_match.action.name == DEFAULT_DENY


def test_equal_sets_give_equal_bytes_in_whatever_order_they_were_written() -> None:
    random = Random(7)  # the same sets every time
    for world in islice(make_worlds(random, PORTS), 80):
        shuffled = random.sample(world.documents, len(world.documents))
        again = load_world(shuffled, world.default)
        for one, other in zip(both(world.policies), both(again), strict=True):
            assert to_any(one).value == to_any(other).value


def test_every_identity_that_is_compared_begins_with_the_scheme() -> None:
    spec = rule({"principals": ["example.org/ns/a/sa/b", "example.org/*", "*/sa/x", "*"],
                 "notNamespaces": ["a", "b*", "*c"]})  # fmt: skip
    for message in both(load(document(rules=[spec]))):
        for single in _singles(json_format.MessageToDict(message)):
            if single["input"]["name"] != "uri-san" or "contains" in single["valueMatch"]:
                continue
            (form, text), *_ = single["valueMatch"].items()
            text = text["regex"] if form == "safeRegex" else text
            assert form == "suffix" or text.startswith("spiffe://")


def test_dots_are_literal_in_the_one_regular_expression_on_identities() -> None:
    message = both(load(document(rules=[rule({"namespaces": ["*-a.b"]})])))[1]
    regexes = [
        single["valueMatch"]["safeRegex"]["regex"]
        for single in _singles(json_format.MessageToDict(message))
        if "safeRegex" in single["valueMatch"]
    ]
    assert regexes == [r"spiffe://example\.org/ns/[^/]*\-a\.b(/.*)?"]


def test_many_principals_are_one_map() -> None:
    principals = [f"example.org/ns/shop/sa/web-{number}" for number in range(1_000)]
    spec = rule({"principals": principals}, {"methods": ["GET"]})
    for message in both(load(document(rules=[spec, rule({"principals": principals[:5]})])))[:1]:
        text = str(message)
        assert text.count("spiffe://example.org/ns/shop/sa/web-999") == 1
        assert text.count('value: "GET"') + text.count('exact: "GET"') == 1
        assert len(to_any(message).value) < 400_000


def test_rules_that_nothing_can_reach_are_left_out() -> None:
    policies = load(document("deny", action="DENY", rules=[{}]), document("web", rules=[{}]))
    message = both(policies)[0]
    assert message.matcher.on_no_match.action.name == "ns[shop]-policy[deny]-rule[0]"
    assert "policy[web]" not in str(message)


def test_random_sets_compile_for_every_kind_of_connection() -> None:
    for world in islice(make_worlds(Random(11), PORTS, checks_in_four=2), 100):
        for mutual_tls in (True, False):
            for compile_filter in (http_rbac, network_rbac):
                message = compile_filter(world.case.policies, mutual_tls=mutual_tls)
                assert message.matcher.ByteSize()


def test_every_attribute_is_compared_by_proxies_or_left_to_check() -> None:
    assert set(Attribute) == COMPARED | TOKEN
    assert not COMPARED & TOKEN


def annotated(name: str, key: str, value: str, **more: Any) -> dict[str, Any]:
    """Return a policy with an annotation."""
    written = document(name, **more)
    written["metadata"]["annotations"] = {key: value}
    return written


EXPIRES = ("meshca.io/expires", "2030-01-01T00:00:00Z")
BOB = rule({"requestPrincipals": ["https://iss.test/bob"]})
GUARD = document("it", action="CUSTOM", rules=[rule(None, {"ports": ["8080"]})])
GUARD["spec"]["provider"] = {"name": "guard"}
NEEDY: dict[str, list[dict[str, Any]]] = {
    "token-allow": [document("it", rules=[BOB])],
    "token-deny": [document("all", rules=[{}]), document("it", action="DENY", rules=[BOB])],
    "custom": [
        document("all", rules=[{}]),
        {**GUARD, "metadata": {**GUARD["metadata"], "name": "it"}},
    ],
    "expiring-allow": [annotated("it", *EXPIRES, rules=[{}])],
    "expiring-deny": [
        document("all", rules=[{}]),
        annotated("it", *EXPIRES, action="DENY", rules=[rule(None, {"ports": ["8080"]})]),
    ],
}


@pytest.mark.parametrize("case", NEEDY)
def test_what_needs_a_check_opens_before_one_and_closes_without(case: str) -> None:
    compiled = compile_workload(load(*NEEDY[case]), ORDERS)
    assert needs_check(compiled)
    is_there = "policy[it]" in str(http_rbac(compiled, with_check=True))
    assert is_there is case.endswith("allow")
    is_there = "policy[it]" in str(http_rbac(compiled, with_check=False))
    assert is_there is not case.endswith("allow")


@pytest.mark.parametrize("case", NEEDY)
def test_on_tcp_what_needs_a_check_is_denied(case: str) -> None:
    message = network_rbac(compile_workload(load(*NEEDY[case]), ORDERS))
    assert ("policy[it]" in str(message)) is not case.endswith("allow")


def test_loading_warns_of_rules_that_tcp_takes_otherwise() -> None:
    everywhere = {**GUARD, "spec": {**GUARD["spec"], "rules": [{}]}}
    for documents, warned in (
        ([everywhere], "no provider is asked about TCP"),
        (NEEDY["expiring-allow"], "proxies have no clock for TCP"),
    ):
        assert any(warned in problem.message for problem in load(*documents).warnings)
    for case in ("custom", "expiring-deny"):
        assert not any("TCP" in problem.message for problem in load(*NEEDY[case]).warnings)


def test_nothing_else_needs_a_check() -> None:
    trial = annotated("trial", "istio.io/dry-run", "true", rules=[BOB])
    audit = document("audit", action="AUDIT", rules=[BOB])
    for documents in ([], [document(rules=[{}])], [trial], [audit]):
        assert not needs_check(compile_workload(load(*documents), ORDERS))


def bypassed() -> WorkloadPolicies:
    """Return a workload that nobody may call, under an emergency bypass."""
    bypass = Bypass("fire", "shop", frozenset({("app", "orders")}), expires=4e9)
    policies = load(document("nobody")).under(Overlay(bypasses=(bypass,)))
    return compile_workload(policies, ORDERS)


def test_a_bypass_opens_only_where_check_knows_when_it_ends() -> None:
    compiled = bypassed()
    assert needs_check(compiled)
    opened = http_rbac(compiled, with_check=True).matcher
    assert opened.on_no_match.action.name == EMERGENCY_BYPASS
    names = [each.on_match.action.name for each in opened.matcher_list.matchers]
    assert names == [SEVERAL_URI_SANS]
    for message in (http_rbac(compiled), network_rbac(compiled)):
        assert message.matcher.on_no_match.action.name == DEFAULT_DENY


def test_plaintext_is_refused_where_a_port_is_strict() -> None:
    modes = {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "modes", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "orders"}},
            "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"9090": {"mode": "PERMISSIVE"}},
        },
    }
    compiled = compile_workload(load(document(rules=[{}]), modes), ORDERS)
    for compile_filter in (http_rbac, network_rbac):
        plain = json_format.MessageToDict(compile_filter(compiled, mutual_tls=False).matcher)
        strict = plain["matcherList"]["matchers"][-1]
        assert strict["onMatch"]["action"]["name"] == NOT_MUTUAL_TLS
        port = strict["predicate"]["notMatcher"]["singlePredicate"]["valueMatch"]
        assert port == {"exact": "9090"}
        assert NOT_MUTUAL_TLS not in str(compile_filter(compiled))


def test_what_is_on_trial_is_a_matcher_beside_and_counts_by_rule() -> None:
    trial = annotated("trial", "istio.io/dry-run", "true", action="DENY", rules=[{}])
    message = http_rbac(compile_workload(load(document("all", rules=[{}]), trial), ORDERS))
    assert message.shadow_matcher.on_no_match.action.name == "ns[shop]-policy[trial]-rule[0]"
    assert message.matcher.on_no_match.action.name == "ns[shop]-policy[all]-rule[0]"
    assert message.track_per_rule_stats
    assert message.rules_stat_prefix == STAT_PREFIX
    assert message.shadow_rules_stat_prefix == SHADOW_STAT_PREFIX
    nothing = http_rbac(compile_workload(load(document("all", rules=[{}])), ORDERS))
    assert not nothing.HasField("shadow_matcher")


def test_service_accounts_are_looked_up_like_principals() -> None:
    policies = load_world([document(rules=[rule({"serviceAccounts": ["web"]})])], "deny")
    message = http_rbac(compile_workload(policies, ORDERS))
    assert "safe_regex" not in str(message)
    for trust_domain in ("example.org", ALIAS):
        assert f'key: "spiffe://{trust_domain}/ns/shop/sa/web"' in str(message)


def test_principals_with_conditions_beside_identity_are_looked_up_too() -> None:
    principals = [f"example.org/ns/shop/sa/web-{number}" for number in range(100)]
    near = rule({"principals": principals, "ipBlocks": ["10.0.0.0/8"]})
    message = http_rbac(compile_workload(load(document(rules=[near])), ORDERS))
    assert str(message).count("input_matchers.ip.v3.Ip") == 1
    assert str(message).count("exact_match_map") == 1


def test_a_known_trust_domain_needs_no_regular_expression() -> None:
    spec = rule({"trustDomains": ["partner.net"], "namespaces": ["a", "b*"]})
    assert "safe_regex" not in str(both(load(document(rules=[spec])))[0])
    anywhere = rule({"trustDomains": ["partner*"], "namespaces": ["a.b"]})
    assert r"spiffe://[^/]*/ns/a\.b(/.*)?" in json_format.MessageToJson(
        both(load(document(rules=[anywhere])))[0]
    ).replace("\\\\", "\\")


def _singles(value: Any) -> list[dict[str, Any]]:
    """Return every single predicate in a message as plain values."""
    if isinstance(value, list):
        return [single for item in value for single in _singles(item)]
    if not isinstance(value, dict):
        return []
    found = [value["singlePredicate"]] if "singlePredicate" in value else []
    return found + [single for item in value.values() for single in _singles(item)]
