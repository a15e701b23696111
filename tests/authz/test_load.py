"""Loading: what is refused, with file, line, field and advice; and what is not."""

from typing import Any

import pytest

from authz.load import load_policies
from authz.policy import Action
from authz.reader import MAXIMUM_PROBLEMS
from authz.workload import GATEWAY_LABEL, Workload
from meshca.errors import InvalidDocument
from tests.authz.builders import (
    document,
    load,
    names,
    policy_text,
    problems_of,
    rule,
    to_yaml,
)

DOCUMENT_REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "other version": ({"apiVersion": "security.istio.io/v2"}, "apiVersion: must be security"),
    "other kind": ({"kind": "Service"}, "kind: 'Service' is none of AuthorizationPolicy, Peer"),
    "misspelt kind": ({"kind": "Authorizationpolicy"}, "did you mean AuthorizationPolicy?"),
    "unknown top field": ({"specs": {}}, "specs: unknown field; did you mean spec?"),
    "no name": ({"metadata": {"namespace": "shop"}}, "metadata.name: missing"),
    "no namespace": ({"metadata": {"name": "web"}}, "metadata.namespace: missing"),
    "bad namespace": (
        {"metadata": {"name": "web", "namespace": "shop.x"}},
        "is not the namespace of a Kubernetes object",
    ),
    "dry run": (
        {
            "metadata": {
                "name": "web",
                "namespace": "shop",
                "annotations": {"istio.io/dry-run": "yes"},
            }
        },
        "metadata.annotations.istio.io/dry-run: 'yes' is neither",
    ),
    "staged": (
        {
            "metadata": {
                "name": "web",
                "namespace": "shop",
                "annotations": {"meshca.io/stage": "shadowed"},
            }
        },
        "metadata.annotations.meshca.io/stage: 'shadowed' is none of draft, shadow, canary",
    ),
    "null spec": ({"spec": None}, "spec: missing or empty"),
    "custom without whom to ask": (
        {"spec": {"action": "CUSTOM", "rules": [{}]}},
        "write provider: {name: ...}",
    ),
    "misspelt action": ({"spec": {"action": "Deny"}}, "did you mean DENY?"),
    "no targets": ({"spec": {"targetRefs": []}}, "spec.targetRefs: an empty list says nothing"),
    "deny without rules": ({"spec": {"action": "DENY"}}, "DENY without rules denies nothing"),
    "empty rules": ({"spec": {"rules": []}}, "spec.rules: an empty list says nothing"),
    "null rules": ({"spec": {"rules": None}}, "spec.rules: must be a list"),
    "custom without rules": (
        {"spec": {"action": "CUSTOM", "provider": {"name": "opa"}}},
        "CUSTOM without rules asks nobody",
    ),
    "provider of another action": (
        {"spec": {"provider": {"name": "opa"}}},
        "spec.provider: stands beside the action CUSTOM only",
    ),
    "provider without a name": (
        {"spec": {"action": "CUSTOM", "provider": {"name": ""}, "rules": [{}]}},
        "spec.provider.name: the name is empty",
    ),
    "identity in a custom policy": (
        {
            "spec": {
                "action": "CUSTOM",
                "provider": {"name": "opa"},
                "rules": [{"from": [{"source": {"notNamespaces": ["shop"]}}]}],
            }
        },
        "a CUSTOM policy cannot look at notNamespaces",
    ),
    "token in a custom policy": (
        {
            "spec": {
                "action": "CUSTOM",
                "provider": {"name": "opa"},
                "rules": [{"when": [{"key": "request.auth.presenter", "values": ["x"]}]}],
            }
        },
        "a CUSTOM policy cannot look at request.auth.presenter",
    ),
    "selector beside targets": (
        {
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "targetRef": {
                    "group": "gateway.networking.k8s.io",
                    "kind": "Gateway",
                    "name": "public",
                },
            }
        },
        "spec.targetRef: cannot stand beside selector",
    ),
    "target that is a service": (
        {"spec": {"targetRefs": [{"group": "", "kind": "Service", "name": "web"}]}},
        "Service is not a target of policy here; select its workloads with spec.selector",
    ),
    "target of no kind": (
        {"spec": {"targetRefs": [{"kind": "Gatway", "name": "web"}]}},
        "did you mean Gateway?",
    ),
    "target of another group": (
        {"spec": {"targetRefs": [{"kind": "Gateway", "name": "web"}]}},
        "spec.targetRefs[0].group: the group of a Gateway is gateway.networking.k8s.io",
    ),
    "target elsewhere": (
        {
            "spec": {
                "targetRefs": [
                    {
                        "group": "gateway.networking.k8s.io",
                        "kind": "Gateway",
                        "name": "public",
                        "namespace": "other",
                    }
                ]
            }
        },
        "put the policy into the namespace of the Gateway",
    ),
    "many targets": (
        {
            "spec": {
                "targetRefs": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": f"g{n}"}
                    for n in range(17)
                ]
            }
        },
        "at most 16 are allowed",
    ),
    "metadata that is text": ({"metadata": "web"}, "metadata: must be a mapping"),
    "annotations that are a list": (
        {"metadata": {"name": "web", "namespace": "shop", "annotations": []}},
        "metadata.annotations: must be a mapping",
    ),
    "no date": (
        {"metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "today"}},
        "metadata.creationTimestamp: 'today' is not a time",
    ),
    "null rule": ({"spec": {"rules": [None]}}, "spec.rules[0]: missing or empty"),
    "empty when": ({"spec": {"rules": [{"when": []}]}}, "spec.rules[0].when: an empty list"),
    "empty from": ({"spec": {"rules": [{"from": []}]}}, "spec.rules[0].from: an empty list"),
    "null from": ({"spec": {"rules": [{"from": None}]}}, "spec.rules[0].from: must be a list"),
    "empty source": (
        {"spec": {"rules": [{"from": [{"source": {}}]}]}},
        "an empty source would match everything",
    ),
    "no source": ({"spec": {"rules": [{"from": [{}]}]}}, "source: missing or empty"),
    "too many rules": ({"spec": {"rules": [{}] * 513}}, "at most 512 are allowed"),
    "empty selector": ({"spec": {"selector": {}}}, "leave selector out"),
    "selector without labels": ({"spec": {"selector": {"matchLabels": {}}}}, "leave selector out"),
    "selector wildcard": (
        {"spec": {"selector": {"matchLabels": {"app": "web*"}}}},
        "there are no wildcards",
    ),
    "label that is a number": (
        {"spec": {"selector": {"matchLabels": {"app": 1}}}},
        'write it as text: "1"',
    ),
    "selector expression": (
        {"spec": {"selector": {"matchLabels": {"app": "web"}, "matchExpressions": []}}},
        "spec.selector.matchExpressions: unknown field",
    ),
}


@pytest.mark.parametrize(("override", "message"), DOCUMENT_REFUSALS.values(), ids=DOCUMENT_REFUSALS)
def test_refuses_a_document(override: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load(document("web") | override)
    (problem,) = caught.value.problems
    assert message in str(problem)


def test_reports_every_problem_of_every_source_at_once() -> None:
    good = policy_text()
    bad = policy_text(action="BLOCK", source="namespaces: []", operation="ports: ['x', 'y']")
    bad = bad.replace("name: web", "name: other")
    texts = [("a.yaml", good), ("b.yaml", bad), ("c.yaml", "a: ["), ("d.yaml", good)]
    with pytest.raises(InvalidDocument) as caught:
        load_policies(texts, trust_domain="example.org", root_namespace="meshca", default="deny")
    places = [str(problem).partition(" ")[0] for problem in caught.value.problems]
    assert places == [
        "b.yaml:7:",
        "b.yaml:11:",
        "b.yaml:14:",
        "b.yaml:14:",
        "c.yaml:1:",
        "d.yaml:1:",
    ]
    assert "shop/web is already defined in a.yaml:1" in str(caught.value)


def test_a_huge_value_makes_a_short_problem() -> None:
    (problem,) = problems_of(policy_text(source=f"namespaces: ['{'/' * 100_000}']"))
    assert len(problem) < 600


BOMBS = {
    "anchors": ("a: &a [x, x]\nb: [*a, *a]", "anchors and aliases are not allowed"),
    "merge keys": ("a: &a {x: y}\nb: {<<: *a}", "anchors and aliases are not allowed"),
    "tags": ("a: !!python/object:os.system x", "is not allowed"),
    "a key twice": ("kind: a\nkind: b", "kind is given twice"),
    "a deep value": ("[" * 100 + "]" * 100, "nested deeper than 64"),
    "10 MiB": ("# " + "x" * (10 * 1024 * 1024), "larger than 4194304 bytes"),
    "many documents": ("---\n{}\n" * 20_001, "more than 20000 documents"),
    "no YAML": ("a: [", "not YAML"),
    "a control character": ("a: \x00", "not YAML"),
    "a list": ("[]", "must be a mapping"),
    "text": ("policy", "must be a mapping"),
}


@pytest.mark.parametrize(("text", "message"), BOMBS.values(), ids=BOMBS)
def test_refuses_a_text_that_is_no_document(text: str, message: str) -> None:
    assert any(message in problem for problem in problems_of(text)[:3])


def test_two_sources_cannot_define_one_policy() -> None:
    with pytest.raises(InvalidDocument) as caught:
        load_policies(
            [("a.yaml", policy_text()), ("b.yaml", policy_text())],
            trust_domain="example.org",
            root_namespace="meshca",
            default="deny",
        )
    (problem,) = caught.value.problems
    assert "shop/web is already defined in a.yaml:1" in str(problem)
    assert problem.file == "b.yaml"


def test_a_custom_policy_asks_a_provider_that_is_configured() -> None:
    custom = document("web", action="CUSTOM", rules=[{}])
    custom["spec"]["provider"] = {"name": "op"}
    texts = [("a.yaml", to_yaml(custom))]
    names: dict[str, Any] = {"trust_domain": "example.org", "root_namespace": "meshca"}
    with pytest.raises(InvalidDocument) as caught:
        load_policies(texts, **names, default="deny", providers=("opa", "other"))
    (problem,) = caught.value.problems
    assert "'op' is not a provider of policy.providers; known are opa, other" in str(problem)
    assert "did you mean opa?" in str(problem)
    with pytest.raises(InvalidDocument, match="none is configured"):
        load_policies(texts, **names, default="deny", providers=())
    loaded = load_policies(texts, **names, default="deny", providers=("op",)).policies[0]
    assert (loaded.provider, loaded.rules[0].provider) == ("op", "op")


def test_a_target_is_the_gateway_of_its_own_namespace() -> None:
    policy = document("web", rules=[{}])
    policy["spec"]["targetRef"] = {
        "group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"
    }  # fmt: skip
    for namespace in ("shop", "meshca"):
        policy["metadata"]["namespace"] = namespace
        policies = load(policy)
        gateway = Workload("shop", {GATEWAY_LABEL: "public", "app": "x"})
        assert bool(policies.policies_for(gateway)) is (namespace == "shop")
        assert not policies.policies_for(Workload("shop", {GATEWAY_LABEL: "private"}))


MISTAKES = {
    "values": policy_text(operation=f"ports: [{'a, ' * 50_000}]"),
    "fields": policy_text(source="\n        ".join(f"field{n}: []" for n in range(20_000))),
    "annotations": to_yaml(
        document("web") | {"metadata": {"annotations": {f"meshca.io/{n}": "" for n in range(9999)}}}
    ),
}


@pytest.mark.parametrize("text", MISTAKES.values(), ids=MISTAKES)
def test_lists_no_more_mistakes_than_anybody_reads(text: str) -> None:
    problems = problems_of(text)
    assert len(problems) == MAXIMUM_PROBLEMS + 1
    assert any("too many mistakes to list them all" in problem for problem in problems)


def test_accepts_what_an_api_server_adds() -> None:
    added = document("web", rules=[{}])
    added["metadata"] |= {"uid": "1", "creationTimestamp": None, "labels": {"a": "b"}}
    added["metadata"]["managedFields"] = [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]
    added["metadata"]["annotations"] = {
        "istio.io/dry-run": "false",
        "example.org/x": "y",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    added["status"] = {}
    added["apiVersion"] = "security.istio.io/v1beta1"
    assert names(load(added).policies) == ["web"]


def test_version_depends_on_the_meaning_only() -> None:
    one = document("one", rules=[rule({"principals": ["example.org/a", "example.org/b"]})])
    other = document("one", rules=[rule({"principals": ["example.org/b", "example.org/a"]})])
    two = document("two", rules=[{}])
    assert load(one, two).version == load(two, other).version
    assert load(one, two).version != load(one).version
    assert load(one).version != load(one, default="allow").version
    assert load(document("one", action="ALLOW", rules=[{}])).version != (
        load(document("one", action="DENY", rules=[{}])).version
    )


def test_selects_by_namespace_and_labels() -> None:
    policies = load(
        document("everywhere", "meshca"),
        document("here", "shop"),
        document("orders", "shop", selector={"app": "orders"}),
        document("orders-v2", "shop", selector={"app": "orders", "version": "v2"}),
        document("elsewhere", "shop-2"),
    )
    workload = Workload("shop", {"app": "orders", "version": "v1"})
    assert names(policies.policies_for(workload)) == ["everywhere", "here", "orders"]
    assert names(policies.policies_for(Workload("meshca"))) == ["everywhere"]


def test_an_action_that_is_not_written_is_allow() -> None:
    assert load(document("web")).policies[0].action is Action.ALLOW
