"""Requests as JSON: everything that can be said of one, and everything that cannot."""

import json
from dataclasses import replace
from typing import Any

import pytest

from authz.asked import normal_path, parse_request
from authz.check import MAXIMUM_LINE, check, check_lines
from authz.policy import Action, PolicySet, Stage
from authz.request import Http
from meshca.errors import RequestRefused
from tests.authz.builders import WEB, document, load, rule

ADMIN = load(
    document("all", rules=[{}]),
    document("no-admin", action="DENY", rules=[rule(None, {"paths": ["/admin"]})]),
)


def asked(**override: Any) -> dict[str, Any]:
    """Return a request."""
    return {
        "source": {"principal": WEB},
        "destination": {"namespace": "shop", "port": 8080},
        "http": {"method": "GET", "path": "/x"},
    } | override


def on(path: str, **more: Any) -> dict[str, Any]:
    """Return the answer to a request for `path` where `/admin` is denied."""
    return check(ADMIN, asked(http={"method": "GET", "path": path, **more}))


def test_everything_that_is_said_is_in_the_request() -> None:
    request = parse_request(
        {
            "id": 1,
            "time": "2026-11-01T12:00:00Z",
            "source": {
                "principal": WEB,
                "ip": "10.0.0.1",
                "remote_ip": "2001:db8::1",
                "claims": {"iss": "https://idp", "sub": "ann", "aud": ["a"]},
            },
            "destination": {
                "namespace": "shop",
                "labels": {"app": "orders"},
                "port": 8080,
                "ip": "10.0.0.2",
                "sni": "orders.shop",
            },
            "http": {
                "method": "GET",
                "host": "Orders:80",
                "path": "/x",
                "headers": {"X-A": "1", "x-a": ["2", "3"], "x-b": "4"},
            },
        }
    )
    assert request.http == Http(
        "GET",
        "/x",
        "Orders:80",
        {"x-a": "1,2,3", "x-b": "4"},
        {"iss": "https://idp", "sub": "ann", "aud": ["a"]},
    )
    assert (request.source_ip, request.remote_ip) == ("10.0.0.1", "2001:db8::1")
    assert (request.destination_ip, request.sni) == ("10.0.0.2", "orders.shop")
    assert request.time == 1793534400.0


def test_what_is_not_said_is_unknown() -> None:
    request = parse_request({"destination": {"namespace": "shop"}, "http": {}})
    assert request.http == Http()
    unsaid = (request.source, request.port, request.source_ip, request.remote_ip, request.time)
    assert unsaid == (None,) * 5


@pytest.mark.parametrize(
    ("source", "claims"),
    [
        ({"request_principal": "https://idp/a/ann"}, {"iss": "https://idp/a", "sub": "ann"}),
        (
            {"request_principal": "idp/ann", "claims": {"groups": ["x"]}},
            {"iss": "idp", "sub": "ann", "groups": ["x"]},
        ),
        (
            {"request_principal": "idp/ann", "claims": {"iss": "idp", "sub": "ann"}},
            {"iss": "idp", "sub": "ann"},
        ),
        ({"claims": {"iss": "idp"}}, {"iss": "idp"}),
        ({}, None),
    ],
)
def test_a_request_principal_is_issuer_and_subject(source: dict[str, Any], claims: Any) -> None:
    http = parse_request(asked(source=source)).http
    assert http is not None
    assert http.claims == claims


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "address": (asked(source={"ip": "10.0.0"}), "source.ip: is no IP address"),
    "remote address": (asked(source={"remote_ip": "10.0.0.0/8"}), "source.remote_ip: is no IP"),
    "destination's address": (
        asked(destination={"namespace": "shop", "ip": "x"}),
        "destination.ip: is no IP address",
    ),
    "principal of the request": (
        asked(source={"request_principal": "ann"}),
        "must be issuer/subject",
    ),
    "another principal than the claims'": (
        asked(source={"request_principal": "idp/bob", "claims": {"iss": "idp", "sub": "ann"}}),
        "is not iss and sub of the claims",
    ),
    "time without zone": (asked(time="2026-11-01T12:00:00"), "time: must be RFC 3339"),
    "time that is none": (asked(time="now"), "time: must be RFC 3339"),
    "time that is true": (asked(time=True), "time: must be RFC 3339"),
    "header that is a number": (asked(http={"headers": {"a": 1}}), "http.headers.a: must be text"),
    "header line that is a number": (asked(http={"headers": {"a": ["b", 1]}}), "must be text"),
    "several URI SANs in a list": (
        asked(source={"principal": [WEB, WEB]}),
        "source.principal: has the wrong type",
    ),
    "several URI SANs as Envoy joins them": (
        asked(source={"principal": f"spiffe://{WEB},spiffe://{WEB}"}),
        "source.principal: ",
    ),
}


@pytest.mark.parametrize(("value", "message"), REFUSED.values(), ids=REFUSED)
def test_a_bad_request_is_refused_with_the_mistake(value: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestRefused, match=message):
        parse_request(value)
    answer = check(load(document("all", rules=[{}])), value)
    assert (answer["verdict"], answer["policy"]) == ("deny", None)
    assert answer["reason"].startswith("invalid request: ")


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/admin", "/admin"),
        ("//admin", "/admin"),
        ("/a//../admin", "/admin"),
        ("/./admin/.", "/admin/"),
        ("/../../admin", "/admin"),
        ("/%61dmin", "/admin"),
        ("/a%2f..%2Fadmin", "/admin"),
        ("/\\admin", "/admin"),
        ("/%5cadmin", "/admin"),
        ("/admin%3bx", "/admin%3bx"),
        ("/%2561dmin", "/%2561dmin"),
        ("/admin/", "/admin/"),
        ("/a/?x=//../y", "/a/?x=//../y"),
        ("/", "/"),
        ("/..", "/"),
        ("//", "/"),
        ("/.well-known/x", "/.well-known/x"),
    ],
)
def test_the_normal_path_is_what_proxies_show_to_policy(path: str, seen: str) -> None:
    assert normal_path(path) == seen


@pytest.mark.parametrize("path", ["//admin", "/a/../admin", "/%2fadmin", "/%61dmin", "/\\admin"])
def test_a_path_is_taken_as_it_is_and_the_answer_says_what_a_proxy_would_see(path: str) -> None:
    assert on("/admin")["verdict"] == "deny"
    answer = on(path)
    assert (answer["verdict"], answer["policy"]) == ("allow", "shop/all")
    assert answer["reason"].endswith("proxies of this mesh make it /admin)")
    assert "the path" not in on("/items")["reason"]


@pytest.mark.parametrize("path", ["admin", "", "/a#b", "https://x/admin", "*"])
def test_a_path_that_proxies_refuse_is_denied(path: str) -> None:
    answer = on(path)
    assert (answer["verdict"], answer["policy"]) == ("deny", None)


@pytest.mark.parametrize(
    ("host", "verdict"),
    [
        ("orders.shop", "deny"),
        ("ORDERS.Shop", "deny"),
        ("orders.shop.", "deny"),
        ("orders.shop:8080", "allow"),
        ("orders.shop.evil", "allow"),
    ],
)
def test_hosts_fold_case_and_keep_their_port(host: str, verdict: str) -> None:
    text = document("no", action="DENY", rules=[rule(None, {"hosts": ["orders.shop"]})])
    policies = load(document("all", rules=[{}]), text)
    answer = check(policies, asked(http={"method": "GET", "path": "/", "host": host}))
    assert answer["verdict"] == verdict


def test_nobody_is_not_everybody() -> None:
    policies = load(document("not", rules=[rule({"notPrincipals": ["example.org/ns/x/sa/y"]})]))
    for source in ({}, None, {"principal": ""}, {"principal": None}):
        assert check(policies, asked(source=source))["verdict"] == "deny"
    assert check(policies, asked())["verdict"] == "allow"


def test_a_line_of_ten_mebibytes_is_one_denial_among_others() -> None:
    huge = json.dumps(asked(http={"method": "GET", "path": "/" + "a" * (10 * MAXIMUM_LINE)}))
    lines = [json.dumps(asked()), huge, json.dumps(asked())]
    answers = [json.loads(line) for line in check_lines(ADMIN, lines)]
    assert [each["verdict"] for each in answers] == ["allow", "deny", "allow"]
    assert "a line is at most" in answers[1]["reason"]
    assert len(answers[1]["reason"]) < 200


@pytest.mark.parametrize(
    "line", ["{", "null", "[]", '"x"', "1e999", '{"id": 1}', "[" * 5000, '{"http": {"path": 1}}']
)
def test_a_line_that_is_no_request_is_answered_deny(line: str) -> None:
    (answer,) = [json.loads(each) for each in check_lines(ADMIN, [line])]
    assert answer["verdict"] == "deny"
    assert answer["reason"].startswith("invalid request: ")


def test_rules_end_at_the_time_of_the_request_or_of_now() -> None:
    loaded = load(document("all", rules=[{}]))
    ends = 1_000.0
    (policy,) = loaded.policies
    rules = tuple(replace(each, expires=ends) for each in policy.rules)
    policies = PolicySet.of(
        [replace(policy, rules=rules, expires=ends)],
        trust_domain="example.org",
        root_namespace="meshca",
        default="deny",
    )
    assert check(policies, asked(time=999))["verdict"] == "allow"
    assert check(policies, asked(time=1000))["verdict"] == "deny"
    assert check(policies, asked(), now=999.0)["verdict"] == "allow"
    assert check(policies, asked())["verdict"] == "deny", "at no known time it has ended"


def test_what_is_on_trial_is_named_beside_the_verdict() -> None:
    loaded = load(
        document("all", rules=[{}]),
        document("strict", action="DENY", rules=[rule(None, {"methods": ["GET"]})]),
    )
    staged = [replace(p, stage=Stage.SHADOW) if p.name == "strict" else p for p in loaded.policies]
    policies = PolicySet.of(
        staged, trust_domain="example.org", root_namespace="meshca", default="deny"
    )
    answer = check(policies, asked())
    assert answer["verdict"] == "allow"
    (trial,) = answer["shadow"]
    assert (trial["verdict"], trial["policy"], trial["rule"]) == ("deny", "shop/strict", 0)
    assert set(trial) == {"set", "verdict", "policy", "rule", "reason"}


def test_providers_that_would_be_asked_are_named_and_what_they_decide_is_denied() -> None:
    loaded = load(document("all", rules=[{}]), document("ask", action="DENY", rules=[{}]))
    changed = []
    for policy in loaded.policies:
        if policy.name == "ask":
            rules = tuple(
                replace(each, action=Action.CUSTOM, provider="opa") for each in policy.rules
            )
            policy = replace(policy, action=Action.CUSTOM, provider="opa", rules=rules)
        changed.append(policy)
    policies = PolicySet.of(
        changed, trust_domain="example.org", root_namespace="meshca", default="deny"
    )
    answer = check(policies, asked())
    assert (answer["verdict"], answer["providers"]) == ("deny", ["opa"])
    assert "opa has not answered" in answer["reason"]
