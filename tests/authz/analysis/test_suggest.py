"""Suggested policies: they allow what was recorded, little more, and say what they leave out."""

from authz.analysis.generalise import generalise
from authz.analysis.suggest import Suggestion, suggest
from authz.engine import decide
from authz.records.decisions import Distinct
from authz.records.operation import OTHER
from tests.authz.analysis.recorded import NOW, seen
from tests.authz.builders import ORDERS, WEB, connection, load_text, request


def suggested(*decisions: Distinct) -> Suggestion:
    (one,) = suggest(decisions, trust_domain="example.org", root_namespace="meshca", now=NOW)
    return one


def test_what_was_allowed_is_allowed_and_nothing_beside_it() -> None:
    other = "example.org/ns/shop/sa/other"
    suggestion = suggested(
        seen("/items"), seen("/items", method="POST"), seen("/cart", principal=other),
        seen(None, port=5432), seen(None)
    )  # fmt: skip
    policies = load_text(suggestion.text)
    assert suggestion.left_out == (f"spiffe://{WEB} tcp port 8080",)
    assert suggestion.also_allows == ()
    assert (suggestion.namespace, suggestion.name) == ("shop", "suggested-orders")
    assert policies.policies[0].selector == frozenset({("app", "orders")})
    for asked, allowed in (
        (request(path="/items", method="POST"), True),
        (request(other, path="/cart"), True),
        (request(other, path="/items"), False),
        (request(path="/items", method="PUT"), False),
        (request(path="/items", port=9090), False),
        (connection(port=5432), True),
        (connection(), False),
        (connection(other, port=5432), False),
    ):
        assert decide(policies, asked).allowed is allowed, asked


def test_peers_that_do_the_same_share_a_rule() -> None:
    others = [f"example.org/ns/shop/sa/{name}" for name in "abc"]
    suggestion = suggested(*(seen("/items", principal=other) for other in others))
    (policy,) = load_text(suggestion.document).policies
    assert len(policy.rules) == 1


def test_many_identifiers_become_a_template() -> None:
    suggestion = suggested(*(seen(f"/items/{number}/lines") for number in range(40)))
    assert '"/items/{*}/lines"' in suggestion.document
    policies = load_text(suggestion.document)
    assert decide(policies, request(path="/items/999/lines")).allowed
    assert not decide(policies, request(path="/items/999")).allowed


def test_what_a_template_opens_that_was_denied_is_said() -> None:
    denied = seen("/items/99", allowed=False)
    suggestion = suggested(*(seen(f"/items/{number}") for number in range(5)), denied)
    assert suggestion.also_allows == (f"spiffe://{WEB} GET /items/99 port 8080",)
    assert "# Also allows, and was denied:" in suggestion.text


def test_what_no_policy_can_name_is_left_out_by_name() -> None:
    suggestion = suggested(
        seen("/items"),
        seen("/plain", principal=None),
        seen("/star*"),
        seen(path=OTHER, host=OTHER),
    )
    assert suggestion.left_out == (
        "(no identity) GET /plain port 8080",
        f"spiffe://{WEB} GET /star* port 8080",
        f"spiffe://{WEB} GET (other) port 8080",
    )
    assert suggestion.requests == 4


def test_a_recorded_path_cannot_write_policy() -> None:
    suggestion = suggested(seen("/items"), seen('/x\n  action: "DENY'))
    (policy,) = load_text(suggestion.text).policies
    assert policy.action == "ALLOW"
    assert len(suggestion.left_out) == 1


def test_workloads_that_differ_in_labels_of_pods_only_are_one() -> None:
    hashed = (
        '{"app":"orders","pod-template-hash":"1"}',
        '{"app":"orders","pod-template-hash":"2"}',
    )
    assert suggested(*(seen(labels=labels) for labels in hashed)).distinct == 2
    bare = suggested(seen(labels='{"pod-template-hash":"1"}'))
    assert load_text(bare.document).policies[0].selector == frozenset()


def test_nothing_recorded_suggests_nothing() -> None:
    options = {"trust_domain": "example.org", "root_namespace": "meshca", "now": NOW}
    assert suggest([], **options) == []  # type: ignore[arg-type]  # a table of options
    assert suggest([seen(allowed=False)], **options) == []  # type: ignore[arg-type]


def test_few_names_stay_names_and_every_path_is_matched_by_what_stands_for_it() -> None:
    paths = [f"/api/{name}" for name in ("orders", "items", "carts")]
    paths += [f"/api/orders/{number}/lines/{line}" for number in range(9) for line in range(9)]
    paths += ["/", "/x//y", "/api/"]
    general = generalise(paths)
    assert general["/api/items"] == "/api/items"
    assert general["/api/orders/3/lines/4"] == "/api/orders/{*}/lines/{*}"
    assert {path for path in paths if general[path] == path} >= {"/", "/x//y", "/api/"}
    assert ORDERS.namespace == "shop"
