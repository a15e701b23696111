"""The compiled filters as messages: always rules, whole identities, the same bytes."""

from random import Random
from typing import Any

import pytest
from google.protobuf import json_format

from authz.compile import DEFAULT_ALLOW, DEFAULT_DENY, http_rbac, network_rbac, to_any
from authz.engine import compile_workload
from authz.policy import PolicySet
from tests.authz.builders import ORDERS, document, load, rule
from tests.authz.generated import WORKLOAD, make_documents


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
    for _ in range(50):
        documents = make_documents(random)
        shuffled = random.sample(documents, len(documents))
        for one, other in zip(both(load(*documents)), both(load(*shuffled)), strict=True):
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
    random = Random(11)  # the same sets every time
    for _ in range(100):
        compiled = compile_workload(load(*make_documents(random)), WORKLOAD)
        for mutual_tls in (True, False):
            for compile_filter in (http_rbac, network_rbac):
                assert compile_filter(compiled, mutual_tls=mutual_tls).matcher.ByteSize()


def _singles(value: Any) -> list[dict[str, Any]]:
    """Return every single predicate in a message as plain values."""
    if isinstance(value, list):
        return [single for item in value for single in _singles(item)]
    if not isinstance(value, dict):
        return []
    found = [value["singlePredicate"]] if "singlePredicate" in value else []
    return found + [single for item in value.values() for single in _singles(item)]
