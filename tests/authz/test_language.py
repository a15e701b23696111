"""What each field and condition means, a near miss beside each match.

The forms of principals, namespaces, paths and methods are in test_engine.py; this is the rest.
"""

from dataclasses import replace
from typing import Any

import pytest

from authz.engine import decide
from authz.request import Http, Request
from tests.authz.builders import ORDERS, WEB, connection, document, load, request, rule

PARTNER = "partner.test/ns/shop/sa/web"


def holds(rule: dict[str, Any], asked: Request, *, action: str = "ALLOW") -> bool:
    """Return whether the one rule of a policy holds for `asked`."""
    policies = load(
        document("p", action=action, rules=[rule]),
        default="deny" if action == "ALLOW" else "allow",
        aliases=("old.example",),
    )
    return decide(policies, asked).allowed is (action == "ALLOW")


def when(key: str, *values: str, negative: bool = False) -> dict[str, Any]:
    return {"when": [{"key": key, "notValues" if negative else "values": list(values)}]}


def http(**said: Any) -> Request:
    return replace(request(), http=Http("GET", "/", **said))


@pytest.mark.parametrize(
    ("values", "host", "expected"),
    [
        (["orders.shop"], "orders.shop", True),
        (["Orders.SHOP"], "oRDERS.shop", True),
        (["orders.shop"], "orders.shop.", True),
        (["orders.shop"], "orders.shop:80", False),
        (["orders.shop:*"], "orders.shop.:80", True),
        (["orders.shop:*"], "orders.shop", False),
        (["*.shop"], "evil.orders.shop", True),
        (["*.shop"], "ordersxshop", False),
        (["orders.shop"], "ordersxshop", False),
        (["*"], "anything:1", True),
    ],
)
def test_hosts(values: list[str], host: str, expected: bool) -> None:
    assert holds(rule(None, {"hosts": values}), http(host=host)) is expected
    assert holds(rule(None, {"notHosts": values}), http(host=host)) is not expected


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/items/{*}", "/items/7", True),
        ("/items/{*}", "/items/a*b", True),
        ("/items/{*}", "/items/", False),
        ("/items/{*}", "/items/7/parts", False),
        ("/items/{*}/", "/items/7/", True),
        ("/i.ems/{*}", "/items/7", False),
        ("/x/{**}", "/x/", True),
        ("/x/{**}", "/x/a/b", True),
        ("/x/{**}", "/x", False),
        ("/x/{**}/y", "/x//y", True),
        ("/x/{**}/y", "/x/y", False),
        ("/{*}/x/{**}", "/a/x/b/c", True),
        ("/{*}/x/{**}", "/a/b/x/c", False),
        ("/items/{*}", "/items/7?x=/y", True),
    ],
)
def test_path_templates(template: str, path: str, expected: bool) -> None:
    assert holds(rule(None, {"paths": [template]}), request(path=path)) is expected


@pytest.mark.parametrize(
    ("value", "lines", "expected"),
    [
        ("admin", ["admin"], True),
        ("admin", ["user", "admin"], False),
        ("admin", ["user,admin"], False),
        ("user,admin", ["user", "admin"], True),
        ("*admin", ["user", "admin"], True),
        ("adm*", ["user", "admin"], False),
        ("admin", ["Admin"], False),
        ("*", [""], False),
        ("*", ["x"], True),
        ("*", [], False),
        ("a.min", ["admin"], False),
    ],
)
def test_headers(value: str, lines: list[str], expected: bool) -> None:
    headers = {"x-role": ",".join(lines)} if lines else {}
    assert holds(when("request.headers[X-Role]", value), http(headers=headers)) is expected
    negated = when("request.headers[X-Role]", value, negative=True)
    assert holds(negated, http(headers=headers)) is not expected


@pytest.mark.parametrize(
    ("block", "address", "expected"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.10", False),
        ("10.1.2.3/16", "10.1.255.1", True),
        ("10.1.0.0/16", "10.2.0.1", False),
        ("10.1.0.0/16", "::ffff:10.1.0.1", True),
        ("2001:db8::/32", "2001:0DB8:1::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("::/0", "10.0.0.1", False),
        ("0.0.0.0/0", "::1", False),
        ("0.0.0.0/0", "10.0.0.1", True),
        ("10.0.0.0/8", "not an address", False),
    ],
)
def test_addresses(block: str, address: str, expected: bool) -> None:
    places: dict[str, tuple[dict[str, Any], ...]] = {
        "source_ip": (rule({"ipBlocks": [block]}), when("source.ip", block)),
        "remote_ip": (rule({"remoteIpBlocks": [block]}), when("remote.ip", block)),
        "destination_ip": (when("destination.ip", block),),
    }
    for place, rules in places.items():
        said: dict[str, Any] = {place: address}
        asked = replace(request(), **said)
        assert [holds(each, asked) for each in rules] == [expected] * len(rules)
        for other in places.keys() - {place}:
            assert not any(holds(each, asked) for each in places[other])


@pytest.mark.parametrize(
    ("value", "name", "expected"),
    [
        ("orders.shop", "Orders.shop", True),
        ("ORDERS.shop", "orders.shop", True),
        ("orders.shop", "ordersxshop", False),
        ("*.shop", "orders.shop", True),
        ("*", None, False),
    ],
)
def test_server_names(value: str, name: str | None, expected: bool) -> None:
    assert holds(when("connection.sni", value), replace(request(), sni=name)) is expected


@pytest.mark.parametrize(
    ("value", "principal", "expected"),
    [
        ("web", WEB, True),
        ("shop/web", WEB, True),
        ("shop/web", "old.example/ns/shop/sa/web", True),
        ("shop/web", PARTNER, False),
        ("shop/we.", WEB, False),
        ("shop/web", f"{WEB}/pod/1", False),
        ("shop/web", "example.org/ns/shop/x/sa/web", False),
        ("shop-2/web", WEB, False),
        ("shop/web", None, False),
    ],
)
def test_service_accounts(value: str, principal: str | None, expected: bool) -> None:
    assert holds(rule({"serviceAccounts": [value]}), request(principal)) is expected
    assert holds(when("source.serviceAccount", value), request(principal)) is expected


@pytest.mark.parametrize(
    ("value", "principal", "expected"),
    [
        ("example.org", WEB, True),
        ("example.org", "old.example/x", True),
        ("example.org", "example.org.evil/x", False),
        ("example.*", "example.org/x", True),
        ("*.test", PARTNER, True),
        ("*", None, False),
    ],
)
def test_trust_domains(value: str, principal: str | None, expected: bool) -> None:
    assert holds(rule({"trustDomains": [value]}), request(principal)) is expected
    assert holds(when("source.trustDomain", value), request(principal)) is expected


def test_a_namespace_is_of_another_trust_domain_only_where_that_is_named() -> None:
    assert not holds(rule({"namespaces": ["shop"]}), request(PARTNER))
    named = rule({"namespaces": ["shop"], "trustDomains": ["partner.test"]})
    assert holds(named, request(PARTNER))
    assert not holds(named, request(WEB))
    conditions = {"from": [{"source": {"namespaces": ["shop"]}}]}
    conditions |= when("source.trustDomain", "partner.test")
    assert holds(conditions, request(PARTNER))


ISSUER = "https://issuer.test"


@pytest.mark.parametrize(
    ("value", "issuer", "subject", "expected"),
    [
        ("*", "i", "s", True),
        ("*", "i", "", False),
        ("*lice", "i", "alice", True),
        ("*/alice", "i", "alice", True),
        ("*/alice", "i", "malice", False),
        ("*.test/alice", ISSUER, "alice", True),
        ("*.test/alice", "https://issuer.testx", "alice", False),
        ("iss*", "issuer", "s", True),
        (f"{ISSUER}/*", ISSUER, "s", True),
        (f"{ISSUER}/*", f"{ISSUER}/realm", "s", False),
        (f"{ISSUER}/al*", ISSUER, "alice", True),
        (f"{ISSUER}/alice", ISSUER, "alice", True),
        (f"{ISSUER}/realm/alice", f"{ISSUER}/realm", "alice", True),
        (f"{ISSUER}/realm/alice", ISSUER, "realm/alice", False),
        ("https://issuer.te.t/alice", ISSUER, "alice", False),
    ],
)
def test_request_principals(value: str, issuer: str, subject: str, expected: bool) -> None:
    asked = http(claims={"iss": issuer, "sub": subject})
    assert holds(rule({"requestPrincipals": [value]}), asked) is expected
    assert holds(when("request.auth.principal", value), asked) is expected


@pytest.mark.parametrize(
    ("key", "value", "claims", "expected"),
    [
        ("audiences", "a", {"aud": "a"}, True),
        ("audiences", "a", {"aud": ["b", "a"]}, True),
        ("audiences", "a", {"aud": "a b"}, False),
        ("presenter", "a", {"azp": "a"}, True),
        ("claims[groups]", "a", {"groups": ["b", "a"]}, True),
        ("claims[groups]", "a", {"groups": "a"}, True),
        ("claims[groups]", "a", {"groups": "a b"}, False),
        ("claims[scope]", "a", {"scope": "b a"}, True),
        ("claims[permission]", "a", {"permission": "b  a"}, True),
        ("claims[realm][scope]", "a", {"realm": {"scope": "b a"}}, False),
        ("claims[realm][roles]", "a", {"realm": {"roles": ["a"]}}, True),
        ("claims[realm][roles]", "a", {"realm": "a"}, False),
        ("claims[level]", "1", {"level": 1}, False),
        ("claims[a.b]", "1", {"a": {"b": "1"}}, False),
        ("claims[a.b]", "1", {"a.b": "1"}, True),
    ],
)
def test_claims(key: str, value: str, claims: dict[str, Any], expected: bool) -> None:
    assert holds(when(f"request.auth.{key}", value), http(claims=claims)) is expected


@pytest.mark.parametrize(
    "spec",
    [
        rule({"notRequestPrincipals": ["x/y"]}),
        when("request.auth.claims[groups]", "x", negative=True),
        when("request.auth.audiences", "x", negative=True),
        when("request.auth.presenter", "x", negative=True),
    ],
)
def test_without_a_token_a_negation_fails_in_allow_and_holds_in_deny(spec: dict[str, Any]) -> None:
    for claims in (None, {}, {"iss": "i"}):
        assert not holds(spec, http(claims=claims))
        assert holds(spec, http(claims=claims), action="DENY")
    assert not holds(spec, connection())
    assert holds(spec, connection(), action="DENY")


@pytest.mark.parametrize(
    "spec",
    [
        rule(None, {"hosts": ["x"]}),
        rule({"requestPrincipals": ["*"]}),
        when("request.headers[a]", "x"),
        when("request.auth.claims[a]", "x"),
    ],
)
def test_what_only_http_has_fails_in_allow_and_holds_in_deny_on_tcp(spec: dict[str, Any]) -> None:
    spec = spec | {"to": [*spec.get("to", []), {"operation": {"ports": ["8080"]}}]}
    assert not holds(spec, connection())
    assert holds(spec, connection(), action="DENY")


@pytest.mark.parametrize("key", ["source.ip", "remote.ip", "destination.ip", "connection.sni"])
def test_what_is_not_known_fails_in_allow_and_holds_in_deny(key: str) -> None:
    value = "a.example" if key == "connection.sni" else "10.0.0.1"
    for negative in (False, True):
        assert not holds(when(key, value, negative=negative), request())
        assert holds(when(key, value, negative=negative), request(), action="DENY")


def test_every_condition_must_hold_and_values_beside_not_values_both() -> None:
    both = {"when": [{"key": "source.namespace", "values": ["sh*"], "notValues": ["shop-2"]}]}
    assert holds(both, request())
    assert not holds(both, request("example.org/ns/shop-2/sa/web"))
    two = {"when": [*both["when"], {"key": "destination.port", "values": ["9090"]}]}
    assert not holds(two, request())
    assert holds(two, request(port=9090))


def test_audit_notes_its_rules_and_changes_nothing() -> None:
    audit = document("watch", action="AUDIT", rules=[rule({"namespaces": ["shop"]}), {}])
    policies = load(audit, document("all", rules=[{}]))
    decision = decide(policies, request("example.org/ns/other/sa/x", destination=ORDERS))
    assert decision.allowed
    assert [each.name for each in decision.audited] == ["ns[shop]-policy[watch]-rule[1]"]
    assert decide(load(audit), request(), answers={}).allowed is False
