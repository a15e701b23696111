"""The effective policy of a workload in words."""

from dataclasses import fields
from datetime import datetime
from typing import Any, ClassVar

from authz.analysis.explain import explain
from authz.overlay import Bypass, Overlay
from authz.policy import Policy, PolicySet
from authz.workload import Workload
from tests.authz.builders import ORDERS, document, load, load_text, rule

NOW = datetime.fromisoformat("2026-11-01T12:00:00+00:00").timestamp()
READ = rule({"namespaces": ["web"]}, {"methods": ["GET", "HEAD"], "paths": ["/items/*"]})


def explained(*documents: dict[str, Any], **options: Any) -> dict[str, Any]:
    return explain(load(*documents, **options), ORDERS, now=NOW).as_json()


def annotated(name: str, **annotations: str) -> dict[str, Any]:
    policy = document(name, rules=[READ])
    said = {f"meshca.io/{key}": value for key, value in annotations.items()}
    policy["metadata"]["annotations"] = said
    return policy


def test_steps_are_in_the_order_of_the_decision() -> None:
    deny = document("no-admin", action="DENY", rules=[rule(None, {"paths": ["/admin*"]})])
    assert explained(document("readers", rules=[READ]), deny)["steps"] == [
        "shop/no-admin rule 0 denies requests where the path is /admin*",
        "shop/readers rule 0 allows requests, over HTTP only, where the peer's namespace is web "
        "and the method is GET or HEAD and the path is /items/*",
        "everything else is denied: no ALLOW rule holds for it",
    ]


def test_alternatives_negations_and_presence_are_told_apart() -> None:
    spec: dict[str, Any] = {
        "from": [{"source": {"notNamespaces": ["a", "b"]}}, {"source": {"principals": ["*"]}}]
    }
    assert explained(document("p", rules=[spec]))["steps"][0] == (
        "shop/p rule 0 allows requests where (the peer's namespace is none of a or b) or "
        "(the peer is there)"
    )


def test_without_a_policy_the_default_is_said() -> None:
    assert explained()["steps"] == [
        "everything else is denied: no ALLOW policy is attached, and that is the default"
    ]
    assert "is allowed" in explained(default="allow")["steps"][0]


def test_says_why_each_policy_is_attached_and_in_which_state() -> None:
    expires = "2026-11-01T13:00:00Z"
    answer = explained(
        document("all", "meshca", rules=[READ]),
        document("orders", selector={"app": "orders"}, rules=[READ]),
        document("payments", selector={"app": "payments"}, rules=[READ]),
        annotated("draft", stage="draft"),
        annotated("shadow", stage="shadow"),
        annotated("until", expires=expires),
        annotated("over", expires="2026-11-01T11:00:00Z"),
        annotated("glass", expires=expires, **{"break-glass": "INC-1"}),
    )
    states = {each["policy"]: each["state"] for each in answer["policies"]}
    assert states == {
        "meshca/all": "in force",
        "shop/orders": "in force",
        "shop/draft": "draft",
        "shop/shadow": "on trial (shadow)",
        "shop/until": f"in force, until {expires}",
        "shop/over": "has ended at 2026-11-01T11:00:00Z",
        "shop/glass": "waits for a second person's approval (break-glass)",
    }
    because = {each["policy"]: each["attached_because"] for each in answer["policies"]}
    assert because["meshca/all"] == "it is in meshca and selects every workload"
    assert because["shop/orders"] == "it is in shop and selects workloads with app=orders"
    assert any("shop/shadow rule 0" in step for step in answer["on_trial"])
    assert not any("shop/shadow" in step for step in answer["steps"])


def test_modes_are_told_port_by_port() -> None:
    text = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  mtls: {mode: STRICT}
  portLevelMtls: {8080: {mode: PERMISSIVE}}
"""
    tls = explain(load_text(text), ORDERS, now=NOW).as_json()["mutual_tls"]
    assert (tls["mode"], tls["ports"]) == ("STRICT", {"8080": "PERMISSIVE"})
    assert "only connections with mutual TLS" in tls["means"]


def test_says_what_is_assumed_and_where_istio_differs_only_where_it_matters() -> None:
    answer = explained(document("p", rules=[rule({"notNamespaces": ["x"]}, {"paths": ["/a"]})]))
    assert any("normalises" in said for said in answer["assumed"])
    assert any("plaintext" in said for said in answer["unlike_istio"])
    plain = explained(document("p", rules=[rule(None, {"ports": ["80"]})]))
    assert not plain["assumed"]
    assert not plain["unlike_istio"]


def test_a_bypass_comes_first_while_it_lasts() -> None:
    bypass = Bypass("b-1", "shop", frozenset(), NOW + 60)
    policies = load(document("p", rules=[READ])).under(Overlay(bypasses=(bypass,)))
    first = explain(policies, ORDERS, now=NOW).as_json()["steps"][0]
    assert first == "emergency bypass b-1 allows everything, until 2026-11-01T12:01:00Z"
    assert "bypass" not in explain(policies, ORDERS, now=NOW + 60).as_json()["steps"][0]
    other = explain(policies, Workload("other"), now=NOW).as_json()
    assert "bypass" not in other["steps"][0]


class Compared(Policy):
    """A policy that counts how often it is compared with another one."""

    times: ClassVar[list[object]] = []

    def __eq__(self, other: object) -> bool:
        self.times.append(other)
        return super().__eq__(other)

    __hash__ = Policy.__hash__


def test_the_states_of_many_policies_need_no_comparison_of_each_with_each() -> None:
    loaded = load(*(document(f"p{number}", rules=[READ]) for number in range(20)))
    given = [field.name for field in fields(Policy) if field.init]
    policies = PolicySet.of(
        (Compared(**{name: getattr(each, name) for name in given}) for each in loaded.policies),
        trust_domain=loaded.trust_domain,
        root_namespace=loaded.root_namespace,
        default=loaded.default,
    )
    states = [each["state"] for each in explain(policies, ORDERS, now=NOW).as_json()["policies"]]
    assert states == ["in force"] * 20
    assert not Compared.times
