"""Loading: what is refused, with file, line, field and advice; and what is not."""

from typing import Any

import pytest

from authz.load import load_policies
from authz.policy import Action
from authz.workload import Workload
from meshca.errors import InvalidDocument
from tests.authz.builders import document, load, load_text, names, rule

POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: web
  namespace: shop
spec:
  action: {action}
  rules:
  - from:
    - source:
        {source}
    to:
    - operation:
        {operation}
"""


def policy_text(
    *, action: str = "ALLOW", source: str = "principals: ['*']", operation: str = "ports: ['80']"
) -> str:
    return POLICY.format(action=action, source=source, operation=operation)


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidDocument) as caught:
        load_text(text)
    return [str(problem) for problem in caught.value.problems]


SOURCE_REFUSALS = {
    "unknown field": ("principal: ['*']", "principal: unknown field; did you mean principals?"),
    "network": ("ipBlocks: ['10.0.0.0/33']", "neither an IP address nor a block"),
    "empty list": ("principals: []", "an empty list says nothing"),
    "null": ("principals:", "must be a list"),
    "text for a list": ("namespaces: shop", "must be a list"),
    "empty value": ("namespaces: ['']", "the value is empty"),
    "number": ("namespaces: [1]", 'write it as text: "1"'),
    "boolean": ("namespaces: [true]", 'write it as text: "true"'),
    "star in the middle": ("principals: ['example.org/*/sa/web']", "nothing else is a wildcard"),
    "two stars": ("namespaces: ['*shop*']", "nothing else is a wildcard"),
    "scheme": ("principals: ['spiffe://example.org/ns/x']", "write it without spiffe://"),
    "trust domain alone": ("principals: ['example.org']", "which no workload carries"),
    "part of a trust domain": ("principals: ['exam*']", "write exam/*"),
    "upper case trust domain": ("principals: ['Example.org/x']", "characters other than a-z"),
    "regular expression": ("principals: ['example.org/ns/.+']", "cannot be part of a SPIFFE ID"),
    "empty segment": ("principals: ['*//sa/web']", "cannot be part of a SPIFFE ID"),
    "trailing slash": ("principals: ['*/web/']", "ends with a slash"),
    "not ASCII": ("principals: ['example.org/ns/caf\u00e9/*']", "cannot be part of a SPIFFE ID"),
    "namespace with a slash": ("namespaces: ['shop/x']", "cannot be a namespace"),
}
OPERATION_REFUSALS = {
    "empty operation": ("{}", "an empty operation would match everything"),
    "host with a scheme": ("hosts: ['http://a']", "cannot be a host"),
    "port number": ("ports: [8080]", 'write it as text: "8080"'),
    "port too high": ("ports: ['65536']", "is not a port"),
    "named port": ("ports: ['http']", "is not a port"),
    "negative port": ("ports: ['-1']", "is not a port"),
    "port with a newline": ('ports: ["80\\n"]', "is not a port"),
    "port wildcard": ("ports: ['80*']", "is not a port"),
    "method with a space": ("methods: ['GET ']", "cannot be an HTTP method"),
    "star in a path": ("paths: ['/a/*/b']", "nothing else is a wildcard"),
    "template after the rest": ("paths: ['/a/{**}/{*}']", "must be the last operator"),
    "template and text in one segment": ("paths: ['/a/{*}b']", "a segment of a template is"),
    "brace": ("paths: ['/a/{id}']", "write %7B or %7D"),
    "relative path": ("paths: ['api']", "a path begins with /"),
    "query": ("paths: ['/a?x=1']", "the query is removed first"),
    "fragment": ("paths: ['/a#x']", "and # is refused"),
    "space in a path": ("paths: ['/a b']", "percent-encoded"),
}


@pytest.mark.parametrize(("source", "message"), SOURCE_REFUSALS.values(), ids=SOURCE_REFUSALS)
def test_refuses_a_source(source: str, message: str) -> None:
    (problem,) = problems_of(policy_text(source=source))
    assert problem.startswith("policy.yaml:11: spec.rules[0].from[0].source")
    assert message in problem


@pytest.mark.parametrize(
    ("operation", "message"), OPERATION_REFUSALS.values(), ids=OPERATION_REFUSALS
)
def test_refuses_an_operation(operation: str, message: str) -> None:
    (problem,) = problems_of(policy_text(operation=operation))
    assert "spec.rules[0].to[0].operation" in problem
    assert message in problem


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


def test_accepts_what_an_api_server_adds() -> None:
    added = document("web", rules=[{}])
    added["metadata"] |= {"uid": "1", "creationTimestamp": None, "labels": {"a": "b"}}
    added["metadata"]["annotations"] = {"istio.io/dry-run": "false", "example.org/x": "y"}
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


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            document("p", action="DENY", rules=[rule(None, {"paths": ["/admin"]})]),
            "denies exactly /admin, not /admin/",
        ),
        (
            document("p", action="DENY", rules=[rule(None, {"methods": ["GET"]})]),
            "on TCP connections methods, paths, hosts, headers and tokens do not exist",
        ),
        (
            document("p", rules=[rule({"principals": ["cluster.local/ns/a/sa/b"]})]),
            "cluster.local is taken for our trust domain, as in Istio; write example.org",
        ),
        (
            document("p", rules=[rule({"principals": ["partner.test/ns/a/sa/b"]})]),
            "names peers of partner.test, which is not our trust domain example.org",
        ),
    ],
    ids=["exact path denied", "deny of a method", "cluster.local", "foreign trust domain"],
)
def test_warns_of_what_is_easily_misread(policy: dict[str, Any], message: str) -> None:
    warnings = [str(problem) for problem in load(policy).warnings]
    assert any(message in warning for warning in warnings)


def test_does_not_warn_of_a_plain_allow() -> None:
    policy = document("p", rules=[rule({"namespaces": ["shop"]}, {"paths": ["/admin"]})])
    assert not load(policy).warnings
