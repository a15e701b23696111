"""Policies about which proxies ask, for tests of Check."""

from dataclasses import replace

from authz.policy import Action, Policy, PolicySet
from tests.sds.conftest import make_policies

POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from: [{source: {principals: [example.org/ns/shop/sa/web]}}]
    to: [{operation: {methods: [GET], ports: ["8443"]}}]
"""


CLOSED = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec: {action: DENY, rules: [{}]}
"""


def with_custom(base: PolicySet, provider: str) -> PolicySet:
    """Return `base` with a CUSTOM policy for everything in shop, decided by `provider`."""
    text = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: shop}
spec: {action: DENY, rules: [{}]}
"""
    (loaded,) = make_policies(text).policies
    rules = tuple(replace(r, action=Action.CUSTOM, provider=provider) for r in loaded.rules)
    custom: Policy = replace(loaded, action=Action.CUSTOM, provider=provider, rules=rules)
    return PolicySet.of(
        [*base.policies, custom],
        trust_domain="example.org",
        root_namespace="meshca",
        default="deny",
    )
