"""Findings: each kind is found, with its policy and rule, and not where it is not so."""

from datetime import datetime
from typing import Any

import pytest

from authz.analysis.lint import Known, find
from authz.workload import Workload
from tests.authz.builders import ORDERS, ROOT_NAMESPACE, WEB, document, load, rule

NOW = datetime.fromisoformat("2026-11-01T12:00:00+00:00").timestamp()
NOBODY = Known()
READ = rule({"principals": [WEB]}, {"methods": ["GET"], "paths": ["/items/*"]})
WIDE = rule({"namespaces": ["shop"]}, {"methods": ["GET", "PUT"]})


def found(*documents: dict[str, Any], known: Known = NOBODY) -> list[tuple[str, str, int | None]]:
    """Return kind, policy and rule of each finding, without what loading warns of."""
    findings = find(load(*documents), known, now=NOW)
    return [(f.kind, f.policy, f.rule) for f in findings if f.kind != "warning"]


def test_a_rule_that_another_covers_is_shadowed() -> None:
    assert found(document("narrow", rules=[READ]), document("wide", rules=[WIDE])) == [
        ("shadowed", "shop/narrow", 0)
    ]


@pytest.mark.parametrize(
    "wide",
    [
        document("wide", "other", rules=[WIDE]),
        document("wide", selector={"app": "orders"}, rules=[WIDE]),
        document("wide", rules=[rule({"namespaces": ["shop"]}, {"methods": ["PUT"]})]),
        document("wide", rules=[rule({"namespaces": ["other"]})]),
        document("wide", action="AUDIT", rules=[WIDE]),
    ],
    ids=["other namespace", "fewer workloads", "other method", "other peers", "audit"],
)
def test_a_rule_that_is_not_covered_is_not_shadowed(wide: dict[str, Any]) -> None:
    assert found(document("narrow", rules=[READ]), wide) == []


def test_the_root_namespace_covers_every_other() -> None:
    root = document("wide", ROOT_NAMESPACE, rules=[WIDE])
    assert found(document("narrow", rules=[READ]), root) == [("shadowed", "shop/narrow", 0)]


def test_of_two_rules_that_say_the_same_the_later_is_reported() -> None:
    assert found(document("p", rules=[READ, READ])) == [("shadowed", "shop/p", 1)]


def test_a_policy_that_is_only_on_trial_shadows_nothing() -> None:
    wide = document("wide", rules=[WIDE])
    wide["metadata"]["annotations"] = {"meshca.io/stage": "shadow"}
    assert found(document("narrow", rules=[READ]), wide) == []


def test_an_allow_that_a_deny_covers_allows_nothing() -> None:
    deny = document("no", action="DENY", rules=[rule(None, {"paths": ["/items*"]})])
    assert found(document("p", rules=[READ]), deny) == [("under_deny", "shop/p", 0)]


@pytest.mark.parametrize(
    "source",
    [
        {"principals": [WEB], "notPrincipals": ["example.org/ns/shop/*"]},
        {"principals": [WEB], "namespaces": ["other"]},
        {"namespaces": ["shop"], "notNamespaces": ["sh*"]},
    ],
    ids=["principals cancel", "namespace of another", "namespaces cancel"],
)
def test_a_rule_whose_fields_leave_nothing_never_matches(source: dict[str, list[str]]) -> None:
    assert found(document("p", rules=[rule(source)])) == [("never_matches", "shop/p", 0)]
    both = {"from": [{"source": source}, {"source": {"principals": [WEB]}}]}
    findings = find(load(document("p", rules=[both])), NOBODY, now=NOW)
    assert [f.message[:24] for f in findings] == ["from[0] can never hold: "]


def test_a_rule_that_has_ended_is_found() -> None:
    policy = document("p", rules=[READ])
    policy["metadata"]["annotations"] = {"meshca.io/expires": "2026-11-01T12:00:00Z"}
    (finding,) = find(load(policy), NOBODY, now=NOW)
    assert (finding.kind, finding.message) == (
        "never_matches",
        "has ended at 2026-11-01T12:00:00Z: remove it",
    )


def test_names_that_nobody_has_are_found_with_the_likely_one() -> None:
    known = Known(identities=frozenset({f"spiffe://{WEB}"}))
    policy = document(
        "p",
        rules=[
            rule({"principals": ["example.org/ns/shop/sa/wep", "partner.test/x"]}),
            rule({"namespaces": ["shpo"]}),
            rule({"serviceAccounts": ["api"]}),
            rule({"principals": [WEB]}),
        ],
    )
    findings = [f for f in find(load(policy), known, now=NOW) if f.kind != "warning"]
    assert [(f.kind, f.rule) for f in findings] == [
        ("unknown_principal", 0),
        ("unknown_namespace", 1),
        ("unknown_principal", 2),
    ]
    assert findings[0].message == (
        f"principals: nobody has or had example.org/ns/shop/sa/wep; did you mean {WEB}?"
    )
    assert found(policy) == []


def test_selectors_that_select_nothing_and_workloads_without_policy_are_found() -> None:
    known = Known(workloads=frozenset({ORDERS, Workload("bank", {"app": "ledger"})}))
    documents = (
        document("orders", selector={"app": "orders"}, rules=[READ]),
        document("typo", selector={"app": "order"}, rules=[WIDE]),
        document("gone", "nowhere", rules=[READ]),
    )
    findings = find(load(*documents), known, now=NOW)
    assert [(f.kind, f.policy) for f in findings] == [
        ("without_policy", ""),
        ("selects_nothing", "shop/typo"),
        ("unknown_namespace", "nowhere/gone"),
    ]
    assert findings[0].message == "no policy selects bank app=ledger: everything is denied"


def test_what_loading_warns_of_is_part_of_it() -> None:
    deny = document("no", action="DENY", rules=[rule(None, {"paths": ["/admin"]})])
    kinds = {f.kind for f in find(load(deny), NOBODY, now=NOW)}
    assert kinds == {"warning"}
