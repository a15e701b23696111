"""Policies and requests with good defaults, for tests that override one thing."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from authz.load import load_policies
from authz.policy import Default, PolicySet
from authz.request import Http, Request
from authz.workload import Workload
from meshca.errors import InvalidDocument
from meshca.spiffe_id import SpiffeId

TRUST_DOMAIN = "example.org"
ROOT_NAMESPACE = "meshca"
ORDERS = Workload("shop", {"app": "orders", "version": "v1"})
WEB = "example.org/ns/shop/sa/web"


_POLICY = """\
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
    """Return a policy as people write it, with one rule."""
    return _POLICY.format(action=action, source=source, operation=operation)


def problems_of(text: str) -> list[str]:
    """Return why `text` does not load; it must not."""
    with pytest.raises(InvalidDocument) as caught:
        load_text(text)
    return [str(problem) for problem in caught.value.problems]


def document(
    name: str = "policy",
    namespace: str = "shop",
    *,
    action: str | None = None,
    rules: Any = None,
    selector: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Return one AuthorizationPolicy as plain values."""
    spec: dict[str, Any] = {}
    if action is not None:
        spec["action"] = action
    if rules is not None:
        spec["rules"] = rules
    if selector is not None:
        spec["selector"] = {"matchLabels": selector}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def rule(
    source: dict[str, list[str]] | None = None, operation: dict[str, list[str]] | None = None
) -> dict[str, Any]:
    """Return a rule with at most one source and one operation."""
    result: dict[str, Any] = {}
    if source is not None:
        result["from"] = [{"source": source}]
    if operation is not None:
        result["to"] = [{"operation": operation}]
    return result


def load(
    *documents: dict[str, Any], default: Default = "deny", aliases: Sequence[str] = ()
) -> PolicySet:
    """Return the set of `documents`."""
    return load_text(to_yaml(*documents), default=default, aliases=aliases)


def to_yaml(*documents: dict[str, Any]) -> str:
    """Return `documents` as one YAML text (JSON is YAML)."""
    return "\n---\n".join(json.dumps(document) for document in documents)


def load_text(
    text: str,
    *,
    source: str = "policy.yaml",
    default: Default = "deny",
    aliases: Sequence[str] = (),
) -> PolicySet:
    """Return the set that `text` holds."""
    return load_policies(
        [(source, text)],
        trust_domain=TRUST_DOMAIN,
        root_namespace=ROOT_NAMESPACE,
        default=default,
        aliases=aliases,
    )


def request(
    principal: str | None = WEB,
    *,
    destination: Workload = ORDERS,
    port: int | None = 8080,
    method: str | None = "GET",
    path: str | None = "/",
) -> Request:
    """Return an HTTP request."""
    return Request(_identity(principal), destination, port, Http(method, path))


def connection(
    principal: str | None = WEB, *, destination: Workload = ORDERS, port: int | None = 8080
) -> Request:
    """Return a TCP connection."""
    return Request(_identity(principal), destination, port)


def _identity(principal: str | None) -> SpiffeId | None:
    return None if principal is None else SpiffeId.parse(f"spiffe://{principal}")


def names(policies: Sequence[Any]) -> list[str]:
    """Return the names of policies in their order."""
    return [policy.name for policy in policies]
