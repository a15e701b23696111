"""Loading PeerAuthentication: modes, levels, ports, and several of one scope."""

from typing import Any

import pytest

from authz.engine import compile_workload
from authz.peer_authentication import Mode
from authz.workload import Workload
from meshca.errors import InvalidDocument
from tests.authz.builders import document, load

ORDERS = {"matchLabels": {"app": "orders"}}


def peers(
    name: str = "web",
    namespace: str = "shop",
    *,
    created: str | None = None,
    annotations: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "PeerAuthentication",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "creationTimestamp": created,
            "annotations": annotations,
        },
        "spec": spec,
    }


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown mode": (
        peers(mtls={"mode": "strict"}),
        "spec.mtls.mode: 'strict' is none of UNSET, DISABLE, PERMISSIVE, STRICT; did you mean STR",
    ),
    "null": (peers(mtls=None), "spec.mtls: missing or empty"),
    "mode that is a list": (peers(mtls={"mode": ["STRICT"]}), "spec.mtls.mode:"),
    "unknown field": (
        peers(mTLS={"mode": "STRICT"}),
        "spec.mTLS: unknown field; did you mean mtls",
    ),
    "field of another kind": (peers(rules=[{}]), "spec.rules: unknown field"),
    "targets": (peers(targetRefs=[]), "spec.targetRefs: unknown field"),
    "ports without a selector": (
        peers(portLevelMtls={"80": {"mode": "STRICT"}}),
        "ports are those of a workload; write a selector",
    ),
    "no ports": (peers(selector=ORDERS, portLevelMtls={}), "must be a mapping of ports"),
    "port 0": (
        peers(selector=ORDERS, portLevelMtls={"0": {"mode": "STRICT"}}),
        "'0' is not a port: write a number from 1 to 65535",
    ),
    "named port": (
        peers(selector=ORDERS, portLevelMtls={"http": {"mode": "STRICT"}}),
        "'http' is not a port",
    ),
    "unknown mode of a port": (
        peers(selector=ORDERS, portLevelMtls={"80": {"mode": "OFF"}}),
        "spec.portLevelMtls.80.mode: 'OFF' is none of",
    ),
    "stage": (
        peers(annotations={"meshca.io/stage": "shadow"}),
        "PeerAuthentication has no stages; it would be in force at once",
    ),
    "dry run": (
        peers(annotations={"istio.io/dry-run": "true"}),
        "PeerAuthentication has no stages",
    ),
}


@pytest.mark.parametrize(("document", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refuses_a_peer_authentication(document: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load(document)
    (problem,) = caught.value.problems
    assert message in str(problem)


def test_overrides_from_mesh_to_port() -> None:
    policies = load(
        peers("mesh", "meshca", mtls={"mode": "STRICT"}),
        peers("space", "shop", mtls={"mode": "PERMISSIVE"}),
        peers("own", "shop", selector=ORDERS, portLevelMtls={"80": {"mode": "DISABLE"},
                                                             "81": {}}),
    )  # fmt: skip
    orders = compile_workload(policies, Workload("shop", {"app": "orders"})).enforced.modes
    assert [orders.of(port) for port in (80, 81, 82)] == [
        Mode.DISABLE,
        Mode.PERMISSIVE,
        Mode.PERMISSIVE,
    ]
    elsewhere = compile_workload(policies, Workload("shop-2")).enforced.modes
    assert elsewhere.of(80) is Mode.STRICT


def test_a_selector_in_the_root_namespace_selects_nothing_and_warns() -> None:
    policies = load(peers("mesh", "meshca", selector=ORDERS, mtls={"mode": "STRICT"}))
    modes = compile_workload(policies, Workload("meshca", {"app": "orders"})).enforced.modes
    assert modes.of(80) is Mode.PERMISSIVE
    assert "a selector selects nothing" in str(policies.warnings[0])


@pytest.mark.parametrize("selector", [{}, {"selector": ORDERS}], ids=["namespace", "selector"])
def test_two_of_one_scope_in_files_are_an_error_that_names_both(selector: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument) as caught:
        load(peers("a", **selector), peers("b", created="2026-01-01T00:00:00Z", **selector))
    (problem,) = caught.value.problems
    assert "shop/b: shop/a (policy.yaml:1) speaks for the same; keep one" in str(problem)


def test_of_two_with_dates_the_oldest_counts_and_the_others_warn() -> None:
    policies = load(
        peers("a", created="2026-01-02T00:00:00Z", mtls={"mode": "DISABLE"}),
        peers("b", created="2026-01-02T00:30:00+01:00", mtls={"mode": "STRICT"}),
    )
    assert compile_workload(policies, Workload("shop")).enforced.modes.of(1) is Mode.STRICT
    (warning,) = policies.warnings
    assert "shop/a: shop/b" in str(warning)
    assert "is older and counts instead" in str(warning)


def test_names_are_of_one_kind() -> None:
    policies = load(document("web", rules=[{}]), peers("web"))
    assert (len(policies.policies), len(policies.peer_authentications)) == (1, 1)
    with pytest.raises(InvalidDocument, match="shop/web is already defined in"):
        load(peers("web"), peers("web", selector=ORDERS))
