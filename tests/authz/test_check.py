"""`meshca authz check`: JSON in, JSON out."""

import json
from typing import Any

import pytest

from authz.check import check, check_lines
from tests.authz.builders import WEB, document, load, rule

POLICIES = load(
    document("web", rules=[rule({"principals": [WEB]}, {"methods": ["GET"], "paths": ["/api/*"]})]),
    document("no-admin", action="DENY", rules=[rule(None, {"paths": ["/api/admin*"]})]),
    document("db", "data", rules=[rule({"namespaces": ["shop"]}, {"ports": ["5432"]})]),
)


def asked(**override: Any) -> dict[str, Any]:
    """Return a request that is allowed."""
    return {
        "id": "1",
        "source": {"principal": WEB},
        "destination": {"namespace": "shop", "labels": {"app": "orders"}, "port": 8080},
        "http": {"method": "GET", "path": "/api/x?y", "host": "orders", "headers": {}},
    } | override


def test_answers_with_verdict_policy_rule_and_reason() -> None:
    assert check(POLICIES, asked()) == {
        "id": "1",
        "verdict": "allow",
        "policy": "shop/web",
        "rule": 0,
        "reason": "allowed by ns[shop]-policy[web]-rule[0]",
        "shadow": [],
    }


def test_names_the_rule_that_denied_and_none_where_none_did() -> None:
    denied = check(POLICIES, asked(http={"method": "GET", "path": "/api/admin"}))
    assert (denied["verdict"], denied["policy"], denied["rule"]) == ("deny", "shop/no-admin", 0)
    nothing = check(POLICIES, asked(source={}))
    assert (nothing["verdict"], nothing["policy"], nothing["rule"]) == ("deny", None, None)
    assert "the peer has no identity" in nothing["reason"]


@pytest.mark.parametrize("principal", [WEB, f"spiffe://{WEB}"])
def test_takes_a_principal_with_or_without_its_scheme(principal: str) -> None:
    assert check(POLICIES, asked(source={"principal": principal}))["verdict"] == "allow"


def test_a_request_without_http_is_a_tcp_connection() -> None:
    destination = {"namespace": "data", "port": 5432}
    assert check(POLICIES, asked(destination=destination, http=None))["verdict"] == "allow"
    assert check(POLICIES, asked(http=None))["verdict"] == "deny"


REFUSALS: dict[str, tuple[Any, str]] = {
    "not an object": ([], "must be an object"),
    "unknown field": (asked(sources={}), "sources: unknown field"),
    "unknown inner field": (asked(source={"name": "x"}), "source.name: unknown field"),
    "no namespace": (asked(destination={"port": 1}), "destination.namespace: missing"),
    "port as text": (
        asked(destination={"namespace": "shop", "port": "80"}),
        "destination.port: has the wrong type",
    ),
    "boolean port": (
        asked(destination={"namespace": "shop", "port": True}),
        "destination.port: has the wrong type",
    ),
    "port too high": (asked(destination={"namespace": "shop", "port": 65536}), "must be from 0"),
    "label that is no text": (
        asked(destination={"namespace": "shop", "labels": {"a": 1}}),
        "destination.labels.a: must be text",
    ),
    "several URI SANs": (
        asked(source={"principal": f"spiffe://{WEB},spiffe://{WEB}"}),
        "source.principal: ",
    ),
    "trust domain alone": (asked(source={"principal": "example.org"}), "is a trust domain"),
    "headers that are no object": (asked(http={"headers": []}), "http.headers: has the wrong type"),
}


@pytest.mark.parametrize(("value", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_bad_request_is_answered_deny_with_the_mistake(value: Any, message: str) -> None:
    answer = check(load(document("all", rules=[{}]), default="allow"), value)
    assert answer["verdict"] == "deny"
    assert answer["reason"].startswith("invalid request: ")
    assert message in answer["reason"]
    assert answer["policy"] is answer["rule"] is None


def test_a_batch_answers_each_line_in_order() -> None:
    lines = [json.dumps(asked(id=7)), "", "{", json.dumps(asked(id="x", source={}))]
    answers = [json.loads(line) for line in check_lines(POLICIES, lines)]
    assert [(a["id"], a["verdict"]) for a in answers] == [
        (7, "allow"),
        (None, "deny"),
        ("x", "deny"),
    ]
    assert "not JSON" in answers[1]["reason"]
