"""Reasons: the rule that decided, or the nearest one and what was missing."""

from dataclasses import replace
from typing import Any

import pytest

from authz.decision import MAXIMUM_NEAR_MISSES
from authz.engine import decide
from authz.request import Http, Request
from tests.authz.builders import WEB, connection, document, load, request, rule

API = rule(
    {"namespaces": ["shop"]},
    {"methods": ["GET", "HEAD", "OPTIONS", "POST"], "paths": ["/api/*"]},
)


def reason(asked: Request, *rules: Any, action: str = "ALLOW") -> str:
    return decide(load(document("p", action=action, rules=list(rules))), asked).reason


def test_names_the_rule_that_allowed() -> None:
    assert reason(request(path="/api/x"), rule({"namespaces": ["x"]}), API) == (
        "allowed by ns[shop]-policy[p]-rule[1]"
    )


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (request(path="/x"), "paths: /x is none of /api/*"),
        (
            request(path="/api/x", method="PUT"),
            "methods: PUT is none of GET, HEAD, OPTIONS and 1 more",
        ),
        (request("example.org/ns/x/sa/y", path="/api/x"), "namespaces: x is none of shop"),
        (
            request(None, path="/api/x"),
            "namespaces: the peer has no identity with a namespace of this trust domain",
        ),
        (connection(), "it looks at what only HTTP requests have"),
    ],
    ids=["path", "method", "namespace", "no identity", "TCP"],
)
def test_names_the_first_condition_that_failed(asked: Request, why: str) -> None:
    assert reason(asked, API) == (
        f"no ALLOW rule holds; nearest is ns[shop]-policy[p]-rule[0]: {why}"
    )


def test_the_nearest_rule_is_the_one_with_the_fewest_failed_conditions() -> None:
    far = rule({"namespaces": ["x"]}, {"methods": ["PUT"], "paths": ["/y"]})
    assert "rule[1]: paths: /x is none of /api/*" in reason(request(path="/x"), far, API)


def test_says_what_a_negative_field_excludes() -> None:
    why = reason(request(), rule({"notPrincipals": [WEB]}))
    assert why.endswith(f"notPrincipals: {WEB} is one of {WEB}")


def test_says_when_a_deny_rule_holds_for_want_of_an_attribute() -> None:
    spec = rule(None, {"paths": ["/admin"]})
    assert reason(connection(), spec, action="DENY") == (
        "denied by ns[shop]-policy[p]-rule[0]: paths is taken to hold, the request has no path"
    )
    assert reason(request(path="/admin"), spec, action="DENY") == (
        "denied by ns[shop]-policy[p]-rule[0]"
    )


def test_shows_little_of_a_long_path() -> None:
    assert len(reason(request(path="/" + "x" * 10_000), API)) < 300


def test_near_misses_are_bounded_and_the_nearest_comes_first() -> None:
    far = rule({"namespaces": ["x"]}, {"methods": ["PUT"], "paths": ["/y"]})
    decision = decide(load(document("p", rules=[far] * 9 + [API])), request(path="/x"))
    misses = decision.near_misses
    assert len(misses) == MAXIMUM_NEAR_MISSES
    assert misses[0].rule.index == 9
    assert misses[0].reasons == ("paths: /x is none of /api/*",)
    assert [len(miss.failed) for miss in misses] == [1, 3, 3, 3, 3]
    assert not decide(load(), request()).near_misses


def test_a_reason_does_not_say_what_a_header_or_a_token_says() -> None:
    conditions = [
        {"key": "request.headers[authorization]", "values": ["Bearer good"]},
        {"key": "request.auth.claims[email]", "values": ["a@example.org"]},
    ]
    policies = load(document("p", rules=[{"when": [condition]} for condition in conditions]))
    http = Http("GET", "/", None, {"authorization": "Bearer secret"}, {"email": "secret@x.test"})
    decision = decide(policies, replace(request(), http=http))

    said = [decision.reason, *(why for miss in decision.near_misses for why in miss.reasons)]
    assert len(said) == 3
    assert not any("secret" in each for each in said)
    assert said[0].endswith("request.headers[authorization]: its value is none of Bearer good")
