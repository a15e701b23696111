"""Stages of single policies: what a draft, a shadow and a canary do to a decision."""

from typing import Any

import pytest

from authz.engine import decide
from authz.overlay import Overlay
from authz.policy import PolicySet
from authz.workload import Workload
from tests.authz.builders import ORDERS, document, load, request

ITEMS = Workload("stock", {"app": "items"})


def staged(action: str, **annotations: str) -> dict[str, Any]:
    """Return a policy of the root namespace that holds for everything, with annotations."""
    made = document("staged", "meshca", action=action, rules=[{}])
    made["metadata"]["annotations"] = {
        f"meshca.io/{key.replace('_', '-')}": value for key, value in annotations.items()
    }
    return made


def verdicts(policies: PolicySet, destination: Workload = ORDERS) -> tuple[bool, bool | None]:
    """Return what is decided, and what the shadow says."""
    decision = decide(policies, request(destination=destination))
    return decision.allowed, None if decision.shadow is None else decision.shadow.allowed


def test_a_draft_neither_decides_nor_is_on_trial() -> None:
    policies = load(staged("DENY", stage="draft"), default="allow")

    assert verdicts(policies) == (True, None)


def test_a_shadow_is_decided_beside_what_is_in_force() -> None:
    policies = load(staged("DENY", stage="shadow"), default="allow")

    assert verdicts(policies) == (True, False)


def test_dry_run_is_the_stage_shadow() -> None:
    dry = staged("DENY")
    dry["metadata"]["annotations"] = {"istio.io/dry-run": "true"}

    assert verdicts(load(dry, default="allow")) == (True, False)


def test_a_canary_decides_in_its_namespaces_and_is_a_shadow_elsewhere() -> None:
    policies = load(staged("DENY", stage="canary", canary_namespaces="stock"), default="allow")

    assert verdicts(policies, ITEMS) == (False, None)
    assert verdicts(policies, ORDERS) == (True, False)


def test_enforce_is_as_if_nothing_was_said() -> None:
    assert verdicts(load(staged("DENY", stage="enforce"), default="allow")) == (False, None)


@pytest.mark.parametrize("stage", ["draft", "shadow"])
def test_an_allow_on_trial_does_not_make_a_workload_deny(stage: str) -> None:
    policies = load(document("staged", "meshca", action="ALLOW"), default="allow")
    assert verdicts(policies) == (False, None)

    empty = document("staged", "meshca", action="ALLOW")
    empty["metadata"]["annotations"] = {"meshca.io/stage": stage}
    assert verdicts(load(empty, default="allow"))[0]


def test_a_shadow_of_a_candidate_is_decided_with_the_stages_of_its_own_policies() -> None:
    in_force = load(document("all", "meshca", action="ALLOW", rules=[{}]))
    candidate = load(
        document("all", "meshca", action="ALLOW", rules=[{}]),
        staged("DENY", stage="canary", canary_namespaces="stock"),
    )
    shadow = in_force.under(Overlay(candidate=candidate))
    canary = in_force.under(Overlay(candidate=candidate, canary=frozenset({"stock", "shop"})))

    assert (verdicts(shadow, ITEMS), verdicts(shadow, ORDERS)) == ((True, False), (True, False))
    assert (verdicts(canary, ITEMS), verdicts(canary, ORDERS)) == ((False, None), (True, False))
