"""Who can reach a workload, and what an identity can reach, against the engine."""

from dataclasses import replace
from random import Random

import pytest

from authz.analysis.access import what_can, who_can
from authz.analysis.sides import Within
from authz.engine import decide
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId
from tests.authz.analysis.requests import is_in
from tests.authz.analysis.worlds import NOW, WORKLOADS, load, make_documents, make_request
from tests.authz.builders import document, rule

WEB = "example.org/ns/shop/sa/web"
ORDERS = Workload("shop", {"app": "orders"})


@pytest.mark.parametrize("seed", range(500, 520))
def test_a_request_is_in_a_region_exactly_when_it_is_allowed(seed: int) -> None:
    random = Random(seed)
    policies = load(make_documents(random))
    answers = {workload: who_can(policies, workload, now=NOW) for workload in WORKLOADS}

    for workload, found in answers.items():
        assert (found.defects, found.beyond) == ([], [])
        for _ in range(30):
            request, answered = make_request(random)
            request = replace(request, destination=workload, time=NOW)
            inside = [
                part
                for change in found.changes
                for part in change.parts
                if is_in(part, (policies, policies), request, answered, everywhere=True)
            ]
            expected = decide(policies, request, answers=answered).allowed
            assert bool(inside) is expected, request


def test_only_what_is_asked_for_is_said() -> None:
    policies = load(
        [document("web", rules=[rule({"principals": [WEB]}, {"methods": ["GET", "POST"]})])]
    )
    asked = Within(method="DELETE"), Within(method="GET", path="/a", port=8080)

    deleting, reading = (who_can(policies, ORDERS, now=NOW, within=each) for each in asked)

    assert deleting.changes == []
    (change,) = reading.changes
    assert change.witness.request.http is not None
    assert (change.witness.request.http.path, change.witness.request.port) == ("/a", 8080)
    assert change.region["method"] == ["GET"]


def test_a_rule_that_has_ended_lets_nobody_in() -> None:
    ended = document("web", rules=[{}])
    ended["metadata"]["annotations"] = {"meshca.io/expires": "2027-01-15T09:00:00Z"}
    policies = load([ended])

    assert len(who_can(policies, ORDERS, now=NOW).changes) == 1
    assert who_can(policies, ORDERS, now=NOW + 1e9).changes == []


def test_an_identity_can_reach_what_names_it_its_namespace_or_everybody() -> None:
    policies = load(
        [
            document("orders", rules=[rule({"principals": [WEB]})], selector={"app": "orders"}),
            document("cart", rules=[rule({"namespaces": ["shop"]})], selector={"app": "cart"}),
            document("open", "pay", rules=[{}]),
            document("other", rules=[rule({"namespaces": ["pay"]})], selector={"app": "stock"}),
        ]
    )

    reached = what_can(policies, WEB, now=NOW)
    others = what_can(policies, "example.org/ns/elsewhere/sa/x", now=NOW)

    assert {where for change in reached.changes for where in change.destinations} == {
        *("shop/app=orders", "shop/app=cart", "pay/*"),
    }
    assert {where for change in others.changes for where in change.destinations} == {"pay/*"}
    assert {change.witness.request.source for change in reached.changes} == {
        SpiffeId.parse(f"spiffe://{WEB}")
    }


def test_known_workloads_are_destinations_though_no_policy_names_them() -> None:
    policies = load([], "allow")
    known = [Workload("quiet", {"app": "a"})]

    found = what_can(policies, WEB, now=NOW, known=known)

    (change,) = found.changes
    assert "quiet/*" in change.destinations
