"""The demo's two policy sets: what holds at first, and with one more policy."""

import yaml

from meshca.demo.mesh import NAMESPACE, TRUST_DOMAIN


def allow(caller: str, called: str) -> dict[str, object]:
    """Return the policy that lets `caller` send anything to `called`."""
    principal = f"{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{caller}"
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"{caller}-calls-{called}", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": called}},
            "action": "ALLOW",
            "rules": [{"from": [{"source": {"principals": [principal]}}]}],
        },
    }


def text(*policies: dict[str, object]) -> str:
    """Return a policy file."""
    return yaml.safe_dump_all(policies, sort_keys=False)


ORDERS_ONLY = text(allow("frontend", "orders"))
ORDERS_AND_PAYMENTS = text(allow("frontend", "orders"), allow("frontend", "payments"))
