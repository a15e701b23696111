"""Single changes that would have allowed a request, each proved by deciding again."""

from typing import Any

import pytest

from authz.analysis.counterfactual import explained_check, would_allow
from authz.engine import decide
from authz.policy import PolicySet
from authz.request import Request
from tests.authz.builders import WEB, connection, document, load, load_text, request, rule

READ = rule({"principals": [WEB]}, {"methods": ["GET"], "paths": ["/items/*"]})
ORDERS = document("orders", rules=[READ])
NO_ADMIN = document("no-admin", action="DENY", rules=[rule(None, {"paths": ["/items/admin*"]})])


def texts(policies: PolicySet, asked: Request) -> list[str]:
    return [change.text for change in would_allow(policies, asked)]


def test_an_allowed_request_needs_no_change() -> None:
    assert not would_allow(load(ORDERS), request(path="/items/1"))


@pytest.mark.parametrize(
    ("asked", "of_request", "of_policy"),
    [
        (
            request(path="/items/1", method="POST"),
            "with method GET",
            "with POST in methods of rule 0 of shop/orders",
        ),
        (
            request(path="/other"),
            "with path /items/",
            "with /other in paths of rule 0 of shop/orders",
        ),
        (
            request("example.org/ns/shop/sa/x", path="/items/1"),
            f"with principal {WEB}",
            "with example.org/ns/shop/sa/x in principals of rule 0 of shop/orders",
        ),
    ],
    ids=["method", "path", "principal"],
)
def test_names_the_one_value_that_is_in_the_way(
    asked: Request, of_request: str, of_policy: str
) -> None:
    changes = texts(load(ORDERS), asked)
    assert changes[:2] == [of_request, of_policy]
    assert changes[2] == "with an ALLOW policy like this one"


def test_two_values_in_the_way_are_no_single_change() -> None:
    assert texts(load(ORDERS), request(path="/other", method="POST")) == [
        "with an ALLOW policy like this one"
    ]


def test_names_the_deny_policy_that_stands_against_it() -> None:
    asked = request(path="/items/admin")
    assert texts(load(ORDERS, NO_ADMIN), asked) == [
        "with path /items/",
        "without rule 0 of DENY policy shop/no-admin",
    ]
    assert not texts(load(NO_ADMIN), asked)


def test_the_policy_that_it_proposes_allows_the_request_and_nothing_beside_it() -> None:
    asked = request("example.org/ns/x/sa/y", path="/other?q=1", method="PUT")
    (change,) = would_allow(load(), asked)
    policies = load_text(change.document)
    assert decide(policies, asked).allowed
    assert not decide(policies, request(path="/other", method="PUT")).allowed
    assert not decide(policies, connection("example.org/ns/x/sa/y")).allowed


def test_proposes_nothing_that_a_deny_forbids() -> None:
    everything = document("no", action="DENY", rules=[{}])
    assert not would_allow(load(everything, document("no-2", action="DENY", rules=[{}])), request())


def test_a_path_that_no_policy_can_name_is_not_proposed() -> None:
    assert not would_allow(load(), request(path="/a{b"))


def test_a_check_explained_has_two_more_keys() -> None:
    asked: dict[str, Any] = {
        "source": {"principal": WEB},
        "destination": {"namespace": "shop", "port": 80},
        "http": {"method": "PUT", "path": "/items/1"},
    }
    answer = explained_check(load(ORDERS), asked)
    assert answer["verdict"] == "deny"
    assert answer["near_misses"] == [
        {"policy": "shop/orders", "rule": 0, "failed": ["methods: PUT is none of GET"]}
    ]
    assert answer["would_allow"][0] == {
        "of": "request",
        "text": "with method GET",
        "document": None,
    }
    assert explained_check(load(ORDERS), {"bad": 1})["would_allow"] == []


def test_a_value_that_a_deny_forbids_is_not_proposed() -> None:
    no_get = document("no", action="DENY", rules=[rule(None, {"methods": ["GET"]})])
    changes = texts(load(ORDERS, no_get), request(path="/items/1", method="POST"))
    assert changes == [
        "with POST in methods of rule 0 of shop/orders",
        "with an ALLOW policy like this one",
    ]
