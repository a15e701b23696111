"""The semantic difference of two sets, against the engine: thousands of requests, every witness."""

from random import Random
from typing import Any

import pytest

from authz.analysis.destinations import NO_LABELS, Destination
from authz.analysis.difference import Answer, difference
from authz.analysis.sides import Comparison
from authz.analysis.strings import ALPHABET
from authz.decision import Outcome
from authz.engine import decide
from authz.load import load_policies
from authz.overlay import Bypass, Overlay
from authz.policy import Default
from authz.workload import Workload
from tests.authz.analysis.requests import is_changed
from tests.authz.analysis.worlds import NOW, SOON, changed, load, make_documents, make_request
from tests.authz.builders import document, rule, to_yaml

SETS = 60
REQUESTS = 60
KEYS = "https://issuer.example/keys"


@pytest.mark.parametrize("seed", range(SETS))
def test_a_request_is_in_a_region_exactly_when_its_verdict_differs(seed: int) -> None:
    random = Random(seed)
    documents = make_documents(random)
    defaults: tuple[Default, ...] = ("deny", "allow")
    default = random.choice(defaults)
    sets = load(documents, default), load(changed(random, documents), default)
    found = difference(*sets, now=NOW)

    assert (found.defects, found.beyond) == ([], [])
    for _ in range(REQUESTS):
        request, answers = make_request(random)
        before, after = (decide(each, request, answers=answers) for each in sets)
        assert Outcome.ERROR not in (before.outcome, after.outcome)
        differs = before.allowed is not after.allowed
        assert is_changed(found, sets, request, answers) is differs, request


def allow(*rules: dict[str, Any], selector: dict[str, str] | None = None) -> dict[str, Any]:
    """Return an ALLOW policy of the namespace shop."""
    return document("orders", rules=list(rules), selector=selector)


WEB = {"principals": ["example.org/ns/shop/sa/web"]}
READ = rule(WEB, {"methods": ["GET"], "paths": ["/items/*"]})
WRITE = rule(WEB, {"methods": ["GET", "POST"], "paths": ["/items/*"]})


def test_a_change_is_said_in_the_words_of_the_policies_with_a_witness() -> None:
    selector = {"app": "orders"}
    found = difference(
        load([allow(READ, selector=selector)]), load([allow(WRITE, selector=selector)]), now=NOW
    )

    (change,) = found.changes
    assert change.allowed
    assert change.destinations == ("shop/app=orders",)
    assert change.region == {
        "protocol": ["http"],
        "source": ["example.org/ns/shop/sa/web", "old.example/ns/shop/sa/web"],  # our alias
        "method": ["POST"],
        "path": ["/items/*"],
    }
    witness = change.witness.as_json()
    assert witness["source"]["principal"] == "spiffe://example.org/ns/shop/sa/web"
    assert witness["http"]["method"] == "POST"
    assert (change.before.policy, change.after.policy) == ("", "shop/orders")
    assert found.statement == "nothing else changes"


EQUAL: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "two rules for one": (
        [allow(rule(WEB, {"methods": ["GET", "POST"]}))],
        [allow(rule(WEB, {"methods": ["POST"]}), rule(WEB, {"methods": ["GET"]}))],
    ),
    "a value that another holds": (
        [allow(rule(WEB, {"paths": ["/a*"]}))],
        [allow(rule(WEB, {"paths": ["/a*", "/ab/*", "/abc"]}))],
    ),
    "a template that is a prefix but for nothing": (
        [allow(rule(WEB, {"paths": ["/a/*"]}))],
        [allow(rule(WEB, {"paths": ["/a/*", "/a/{*}/b"]}))],
    ),
    "an ALLOW narrowed by a DENY": (
        [allow(rule(WEB, {"methods": ["GET"]}))],
        [
            allow(rule(WEB, {"methods": ["*"]})),
            document("no", action="DENY", rules=[rule(None, {"notMethods": ["GET"]})]),
        ],
    ),
    "a namespace by principals": (
        [allow(rule({"namespaces": ["shop"], "trustDomains": ["other.org"]}))],
        [
            allow(
                rule({"principals": ["other.org/ns/shop/*", "other.org/ns/shop"]}),
            )
        ],
    ),
    "blocks that make up one": (
        [allow(rule({"ipBlocks": ["10.0.0.0/8"]}))],
        [allow(rule({"ipBlocks": ["10.0.0.0/9", "10.128.0.0/9", "10.1.2.3"]}))],
    ),
    "a DENY of what is not allowed": (
        [allow(READ)],
        [allow(READ), document("no", action="DENY", rules=[rule({"namespaces": ["pay"]})])],
    ),
    "a claim that is a text and has claims of its own": (
        [document("orders")],
        [
            allow(
                {
                    "when": [
                        {"key": "request.auth.claims[a]", "values": ["x"]},
                        {"key": "request.auth.claims[a][b]", "values": ["x"]},
                    ]
                }
            )
        ],
    ),
    "names": ([document("one", rules=[READ])], [document("other", rules=[READ])]),
}


@pytest.mark.parametrize("name", EQUAL)
def test_sets_that_decide_alike_are_equal_however_they_are_written(name: str) -> None:
    before, after = EQUAL[name]
    for one, other in ((before, after), (after, before)):
        found = difference(load(one), load(other), now=NOW)
        assert (found.changes, found.beyond, found.defects) == ([], [], [])
        assert (found.is_equal, found.statement) == (True, "nothing changes")


def near(*changed_rules: dict[str, Any]) -> list[dict[str, Any]]:
    return [allow(*changed_rules)]


NEARLY: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, list[str]]]] = {
    "one path of a prefix": (
        near(rule(WEB, {"paths": ["/a/*"]})),
        near(rule(WEB, {"paths": ["/a/*"], "notPaths": ["/a/b"]})),
        {"path": ["/a/b"]},
    ),
    "what lies between a prefix and a template": (
        near(rule(WEB, {"paths": ["/a/{*}"]})),
        near(rule(WEB, {"paths": ["/a/*"]})),
        {"path": ["/a/* except /a/{*}"]},
    ),
    "a trust domain that ends alike": (
        near(rule({"principals": ["*org/ns/shop/sa/web"]})),
        near(rule({"principals": ["example.org/ns/shop/sa/web"]})),
        {"source": ["*org/ns/shop/sa/web except example.org/ns/shop/sa/web"]},
    ),
    "a port": (near(rule(WEB)), near(rule(WEB, {"notPorts": ["9090"]})), {"port": ["9090"]}),
    "one address of a block": (
        near(rule({**WEB, "ipBlocks": ["10.0.0.0/8"]})),
        near(rule({**WEB, "ipBlocks": ["10.0.0.0/8"], "notIpBlocks": ["10.1.2.3"]})),
        {"source_ip": ["10.1.2.3/32"]},
    ),
    "a header": (
        near(rule(WEB)),
        near({**rule(WEB), "when": [{"key": "request.headers[x]", "notValues": ["a"]}]}),
        {"header x": ["a"]},
    ),
}


@pytest.mark.parametrize("name", NEARLY)
def test_a_small_difference_is_found_and_named(name: str) -> None:
    before, after, region = NEARLY[name]
    found = difference(load(before), load(after), now=NOW)

    said = [{k: v for k, v in c.region.items() if k in region} for c in found.changes]
    assert region in said
    assert found.defects == []


def peers(mode: str) -> dict[str, Any]:
    """Return a PeerAuthentication of the namespace shop."""
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"mtls": {"mode": mode}},
    }


EVERYBODY = document("all", rules=[{}])


def test_required_mutual_tls_denies_plaintext() -> None:
    found = difference(load([EVERYBODY, peers("PERMISSIVE")]), load([EVERYBODY, peers("STRICT")]),
                       now=NOW)  # fmt: skip

    (change,) = found.changes
    assert (change.allowed, change.region) == (False, {"source": ["plaintext"]})
    assert change.after.outcome is Outcome.NOT_MUTUAL_TLS


def test_another_default_changes_every_destination_without_an_allow() -> None:
    found = difference(load([EVERYBODY]), load([EVERYBODY], "allow"), now=NOW)

    (change,) = found.changes
    assert (change.allowed, change.region) == (True, {})
    assert set(change.destinations) == {"every other namespace/*", "meshca/*"}


def test_a_custom_policy_denies_what_its_provider_does_not_allow() -> None:
    custom = document("ask", action="CUSTOM", rules=[rule(None, {"paths": ["/admin*"]})])
    custom["spec"]["provider"] = {"name": "opa"}
    found = difference(load([EVERYBODY]), load([EVERYBODY, custom]), now=NOW)

    assert {change.allowed for change in found.changes} == {False}
    asked = [change for change in found.changes if "provider opa" in change.region]
    assert {change.region["provider opa"][0] for change in asked} == {"does not allow"}
    assert asked[0].witness.answers == {"opa": False}
    assert [change.region for change in found.changes if change not in asked] == [
        {"protocol": ["tcp"]}  # where nobody is asked
    ]


def test_what_is_on_trial_changes_no_verdict_unless_it_is_asked_for() -> None:
    trial = document("trial", action="DENY", rules=[{}])
    trial["metadata"]["annotations"] = {"meshca.io/stage": "shadow"}
    sets = load([EVERYBODY]), load([EVERYBODY, trial])

    now = difference(*sets, now=NOW)
    proposed = difference(*sets, now=NOW, proposed=True)

    assert (now.is_equal, len(now.notes)) == (True, 1)
    assert [change.allowed for change in proposed.changes] == [False]


def test_a_rule_that_ends_changes_verdicts_from_then_on() -> None:
    ending = document("all", rules=[{}])
    ending["metadata"]["annotations"] = {"meshca.io/expires": SOON}
    found = difference(load([EVERYBODY]), load([ending]), now=NOW)

    assert {change.allowed for change in found.changes} == {False}
    assert [change.region for change in found.changes] == [
        {"time": [f"from {SOON}"]},
        # Where nobody has a clock:
        {"time": [f"until {SOON}"], "protocol": ["tcp"]},
    ]


def test_a_difference_of_tokens_is_beyond_the_analysis() -> None:
    tokens = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": "shop"},
        "spec": {"jwtRules": [{"issuer": "https://issuer.example", "jwksUri": KEYS}]},
    }
    found = difference(load([EVERYBODY]), load([EVERYBODY, tokens]), now=NOW)

    assert (found.changes, found.is_equal) == ([], False)
    assert "RequestAuthentication shop/tokens differs" in found.beyond[0]


def test_many_values_of_a_claim_are_beyond_the_analysis_and_said_to_be() -> None:
    groups = [{"key": "request.auth.claims[group]", "values": [f"group-{n}" for n in range(12)]}]
    found = difference(load([]), load([allow({**rule(WEB), "when": groups})]), now=NOW)

    assert found.changes
    assert "claim group" in found.beyond[0]
    assert found.statement.startswith("nothing else changes, except perhaps")


def test_rules_too_large_to_look_at_are_beyond_the_analysis_and_said_to_be() -> None:
    methods = [rule(None, {"methods": [f"{letter}*"]}) for letter in ALPHABET]
    found = difference(load([]), load([allow(*methods)]), now=NOW)

    assert (found.changes, found.is_equal) == ([], False)
    assert found.beyond == ["shop/*: forms that go on with every letter there is"]


def test_an_analysis_that_the_engine_does_not_agree_with_is_a_defect() -> None:
    before, after = load([]), load([allow(READ)])
    kind = Destination("shop", NO_LABELS, Workload("shop"))
    compared = Comparison(before, after, NOW).of(kind)
    wrong = Answer(before, before)
    wrong.add(kind, compared)
    found = wrong.finish()

    assert len(found.defects) == 1
    assert not found.is_equal
    assert "do not rely" in found.statement


def test_a_bypass_opens_what_it_selects_until_it_ends() -> None:
    closed = load([document("closed", action="DENY", rules=[{}])])
    selector = frozenset({("app", "a")})
    bypass = Bypass("fire", "shop", selector, expires=NOW + 3600)
    found = difference(closed, closed.under(Overlay(bypasses=(bypass,))), now=NOW)

    (change,) = found.changes
    assert (change.allowed, change.destinations) == (True, ("shop/app=a",))
    assert change.region == {"protocol": ["http"], "time": ["until 2027-01-15T09:00:00Z"]}
    assert change.after.outcome is Outcome.BYPASS
    assert found.defects == []


def test_a_candidate_changes_verdicts_in_its_canary_namespaces() -> None:
    before = load([EVERYBODY, document("all", "pay", rules=[{}])])
    overlay = Overlay(candidate=load([]), canary=frozenset({"pay"}))
    found = difference(before, before.under(overlay), now=NOW)

    (change,) = found.changes
    assert (change.allowed, change.destinations) == (False, ("pay/*",))


def test_another_trust_domain_makes_namespaces_those_of_others() -> None:
    texts = [("policy.yaml", to_yaml(document("all", rules=[rule({"namespaces": ["pay"]})])))]
    before, after = (
        load_policies(texts, trust_domain=name, root_namespace="meshca", default="deny")
        for name in ("example.org", "other.org")
    )
    found = difference(before, after, now=NOW)

    said = {(change.allowed, str(change.witness.request.source)) for change in found.changes}
    assert {allowed for allowed, _ in said} == {True, False}
    assert all(("other.org" in source) is allowed for allowed, source in said)
    assert found.defects == []
