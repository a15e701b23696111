"""Decisions: the order, every form, and what an absent attribute means."""

from typing import Any

import pytest

from authz.engine import MAXIMUM_COMPILED, compile_workload, decide
from authz.request import Http, Request
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId
from tests.authz.builders import ORDERS, WEB, connection, document, load, request, rule

ALLOW_ALL = document("allow-all", rules=[{}])


def allowed(spec: Any, asked: Request, *, action: str = "ALLOW") -> bool:
    """Return the decision of one rule; beside a DENY everything else is allowed."""
    others = [ALLOW_ALL] if action == "DENY" else []
    return decide(load(document("p", action=action, rules=[spec]), *others), asked).allowed


def test_no_policy_denies() -> None:
    decision = decide(load(), request())
    assert not decision.allowed
    assert decision.rule is None
    assert decision.reason == "no ALLOW policy selects this workload; the default is deny"


def test_the_default_may_allow_where_no_allow_policy_is_attached() -> None:
    elsewhere = document("elsewhere", "shop-2", rules=[rule({"namespaces": ["x"]})])
    assert decide(load(elsewhere, default="allow"), request()).allowed
    here = document("here", rules=[rule({"namespaces": ["x"]})])
    assert not decide(load(here, default="allow"), request()).allowed


def test_allow_without_rules_allows_nothing_even_where_the_default_allows() -> None:
    decision = decide(load(document("nothing"), default="allow"), request())
    assert not decision.allowed
    assert "have no rules" in decision.reason


def test_deny_beats_allow_whatever_their_names_and_namespaces() -> None:
    for deny in (document("aaa", action="DENY", rules=[{}]),
                 document("zzz", "meshca", action="DENY", rules=[{}])):  # fmt: skip
        decision = decide(load(ALLOW_ALL, deny), request())
        assert not decision.allowed
        assert decision.policy == f"{deny['metadata']['namespace']}/{deny['metadata']['name']}"


def test_a_deny_that_does_not_hold_leaves_the_default() -> None:
    deny = document("d", action="DENY", rules=[rule({"namespaces": ["x"]})])
    assert not decide(load(deny), request()).allowed
    assert decide(load(deny, default="allow"), request()).allowed


@pytest.mark.parametrize(
    ("value", "principal", "holds"),
    [
        ("example.org/ns/shop/sa/web", "example.org/ns/shop/sa/web", True),
        ("example.org/ns/shop/sa/web", "example.org/ns/shop/sa/web2", False),
        ("example.org/ns/shop/sa/w.b", "example.org/ns/shop/sa/web", False),
        ("example.org/ns/shop/sa/web", "exampleXorg/ns/shop/sa/web".lower(), False),
        ("example.org/ns/shop/*", "example.org/ns/shop/sa/web", True),
        ("example.org/ns/shop/*", "example.org/ns/shop-2/sa/web", False),
        ("example.org/ns/shop*", "example.org/ns/shop-2/sa/web", True),
        ("example.org/*", "example.org.evil/ns/shop/sa/web", False),
        ("*/sa/web", "partner.test/ns/shop/sa/web", True),
        ("*/sa/web", "example.org/ns/shop/sa/myweb", False),
        ("*/ns/shop/sa/web", "ns/shop/sa/web", False),
        ("*", "partner.test/x", True),
        ("*", None, False),
        ("example.org/*", None, False),
    ],
)
def test_principal_forms(value: str, principal: str | None, holds: bool) -> None:
    assert allowed(rule({"principals": [value]}), request(principal)) is holds


@pytest.mark.parametrize(
    ("value", "principal", "holds"),
    [
        ("shop", WEB, True),
        ("shop", "example.org/ns/shop", True),
        ("shop", "example.org/ns/shop-2/sa/web", False),
        ("shop", "partner.test/ns/shop/sa/web", False),
        ("shop", "example.org/team/ns/shop/sa/web", False),
        ("sh.p", WEB, False),
        ("shop*", "example.org/ns/shop-2/sa/web", True),
        ("*-2", "example.org/ns/shop-2/sa/web", True),
        ("*web", WEB, False),
        ("*", WEB, True),
        ("*", "example.org/team/x", False),
        ("*", None, False),
    ],
)
def test_namespace_forms(value: str, principal: str | None, holds: bool) -> None:
    assert allowed(rule({"namespaces": [value]}), request(principal)) is holds


@pytest.mark.parametrize(
    ("value", "path", "holds"),
    [
        ("/api", "/api", True),
        ("/api", "/api?x=1", True),
        ("/api", "/api/", False),
        ("/api", "/API", False),
        ("/a.i", "/api", False),
        ("/api/*", "/api/v1?x", True),
        ("/api/*", "/api", False),
        ("*.json", "/a.json?x=.xml", True),
        ("*.json", "/a?x=.json", False),
        ("*", "/", True),
    ],
)
def test_path_forms(value: str, path: str, holds: bool) -> None:
    assert allowed(rule(None, {"paths": [value]}), request(path=path)) is holds


@pytest.mark.parametrize(
    ("value", "method", "holds"),
    [("GET", "GET", True), ("GET", "get", False), ("P*", "PUT", True), ("*T", "PUT", True),
     ("*", "PURGE", True), ("P*", "GET", False)],
)  # fmt: skip
def test_method_forms(value: str, method: str, holds: bool) -> None:
    assert allowed(rule(None, {"methods": [value]}), request(method=method)) is holds


def test_ports_are_compared_as_numbers() -> None:
    assert allowed(rule(None, {"ports": ["08080"]}), request(port=8080))
    assert not allowed(rule(None, {"ports": ["80"]}), request(port=8080))


def test_source_and_operation_must_both_hold_and_so_must_their_fields() -> None:
    spec = rule({"namespaces": ["shop"], "principals": ["*/sa/web"]}, {"methods": ["GET"]})
    assert allowed(spec, request())
    assert not allowed(spec, request(method="POST"))
    assert not allowed(spec, request("example.org/ns/shop/sa/api"))
    assert not allowed(spec, request("example.org/ns/other/sa/web"))


@pytest.mark.parametrize("field", ["notPrincipals", "notNamespaces"])
def test_a_negative_identity_field_never_lets_plaintext_through(field: str) -> None:
    values = ["example.org/ns/other/*"] if field == "notPrincipals" else ["other"]
    assert allowed(rule({field: values}), request())
    assert not allowed(rule({field: values}), request(None))
    assert not allowed(rule({field: values}), request(None), action="DENY")


def test_a_positive_identity_field_of_a_deny_does_not_hit_plaintext() -> None:
    assert allowed(rule({"namespaces": ["shop"]}), request(None), action="DENY")
    assert allowed(rule({"principals": ["*"]}), request(None), action="DENY")


def test_an_allow_rule_that_looks_at_http_never_holds_on_tcp() -> None:
    mixed = {"to": [{"operation": {"methods": ["GET"]}}, {"operation": {"ports": ["8080"]}}]}
    assert allowed(mixed, request())
    assert not allowed(mixed, connection())
    assert allowed(rule(None, {"ports": ["8080"]}), connection())


def test_on_tcp_what_a_deny_rule_says_of_http_is_taken_to_hold() -> None:
    spec = rule({"namespaces": ["shop"]}, {"notMethods": ["GET"]})
    assert not allowed(spec, connection(), action="DENY")
    assert allowed(spec, connection("example.org/ns/other/sa/x"), action="DENY")


def test_a_port_that_was_not_given_fails_in_allow_and_holds_in_deny() -> None:
    for field in ("ports", "notPorts"):
        assert not allowed(rule(None, {field: ["80"]}), request(port=None))
        assert not allowed(rule(None, {field: ["80"]}), request(port=None), action="DENY")


@pytest.mark.parametrize("path", ["", "*", "admin", "/a#b", "http://x/"])
def test_a_path_that_no_proxy_passes_on_is_denied(path: str) -> None:
    assert not decide(load(ALLOW_ALL), request(path=path)).allowed


def test_an_error_denies() -> None:
    broken = Request(SpiffeId.parse(f"spiffe://{WEB}"), ORDERS, 80, Http("GET", b"/"))  # type: ignore[arg-type]  # what a bug would pass
    decision = decide(load(ALLOW_ALL, default="allow"), broken)
    assert not decision.allowed
    assert decision.reason == "the decision failed with TypeError; errors deny"


def test_a_set_remembers_workloads_without_growing_for_ever() -> None:
    policies = load(ALLOW_ALL)
    assert compile_workload(policies, ORDERS) is compile_workload(policies, ORDERS)
    for number in range(MAXIMUM_COMPILED + 5):
        compile_workload(policies, Workload("shop", {"pod": str(number)}))
    assert len(policies.compiled) <= MAXIMUM_COMPILED
