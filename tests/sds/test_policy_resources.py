"""The filters that policy decides, as a stream sees them: which ones, for whom, and when anew."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from envoy.config.core.v3.base_pb2 import Node
from envoy.config.core.v3.extension_pb2 import TypedExtensionConfig
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RULES
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.http.jwt_authn.v3.config_pb2 import JwtAuthentication
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NETWORK_RBAC
from google.protobuf import json_format

from authz.overlay import Bypass, Overlay
from authz.policy import PolicySet
from authz.workload import Workload
from identity.caller import Caller
from sds.bootstrap_filters import names_of_filters
from sds.check_filter import TIMEOUT_MILLISECONDS
from sds.node_hints import MAXIMUM_LABELS, read_hints
from sds.policy_resources import POLICY_NAMES, PolicyResources, no_keys
from sds.resources import EXTENSION_TYPE, Resource
from tests.fakes import FakeClock
from tests.sds.conftest import Mesh, build_mesh, make_policies, running
from tests.sds.proxy import Proxy
from tests.sds.served import ALLOW_ALL
from tests.sds.token_issuer import TokenIssuer, request_authentication

ISSUER = TokenIssuer()
ORDERS = Workload("shop", {"app": "orders"})
BY_TOKEN = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: bob, namespace: shop}
spec: {rules: [{from: [{source: {requestPrincipals: ["https://issuer.test/bob"]}}]}]}
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mode, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
ALL_HTTP = frozenset(names_of_filters(http=True, tcp=False, permissive=False))


@dataclass
class Made:
    """Filters made of `policies`, with the keys of one issuer."""

    policies: PolicySet
    keys: Any = no_keys
    resources: PolicyResources = field(init=False)

    def __post_init__(self) -> None:
        self.resources = PolicyResources(lambda: self.policies, lambda: self.keys)

    def get(self, name: str, *, with_check: bool = True) -> Resource:
        return self.resources.get(name, ORDERS, with_check=with_check)


def unpacked(resource: Resource, kind: Any) -> Any:
    """Return the filter inside `resource`, which must be a `kind`."""
    typed, message = TypedExtensionConfig(), kind()
    assert resource.pack().Unpack(typed)
    assert typed.name == resource.name
    assert typed.typed_config.Unpack(message), typed.typed_config.type_url
    return message


def test_a_workload_without_need_of_a_filter_gets_one_that_lets_pass() -> None:
    made = Made(make_policies(ALLOW_ALL))

    assert unpacked(made.get("jwt"), RBAC) == RBAC()
    refuses = unpacked(made.get("authz-check"), RBAC).rules  # what counts on a check, and no more
    assert list(refuses.policies) == ["unchecked"]
    assert refuses.action == refuses.DENY


def test_each_name_of_the_bootstrap_is_answered() -> None:
    names = {*names_of_filters(http=True, tcp=True, permissive=True)}
    assert names - {"revoked", "tcp-revoked"} == set(POLICY_NAMES)


def test_a_check_is_bounded_and_never_opens() -> None:
    config = unpacked(Made(make_policies(BY_TOKEN)).get("authz-check"), ExtAuthz)
    config.grpc_service.ClearField("initial_metadata")

    assert json_format.MessageToDict(config) == {
        "grpcService": {
            "envoyGrpc": {"clusterName": "meshca"},
            "timeout": f"{TIMEOUT_MILLISECONDS / 1000:.3f}s",
        },
        "transportApiVersion": "V3",
        "statusOnError": {"code": "Forbidden"},
        "includePeerCertificate": True,
        "includeTlsSession": True,
        "metadataContextNamespaces": ["envoy.filters.http.jwt_authn"],
        "statPrefix": "meshca",
    }


def test_without_a_check_what_needs_one_is_denied() -> None:
    made = Made(make_policies(BY_TOKEN))

    with_check, without = (unpacked(made.get("authz", with_check=c), RBAC) for c in (True, False))

    assert "ALLOW" in actions(with_check)
    assert actions(without) == {"DENY"}


def actions(config: Any) -> set[str]:
    """Return the actions that a filter can end in."""
    text = json_format.MessageToJson(config)
    found = {RULES.Action.Name(RULES.ALLOW)} if '"ns[shop]' in text else set()
    return found | {"DENY"}


def test_one_valid_token_is_enough_or_each_that_is_there_must_be_valid() -> None:
    both = request_authentication(ISSUER.name, "https://other.test")
    config = unpacked(Made(make_policies(both), ISSUER.keys).get("jwt"), JwtAuthentication)

    assert [config.providers[name].issuer for name in ("issuer-0", "issuer-1")] == [
        ISSUER.name,
        "https://other.test",
    ]
    (rule,) = config.rules
    assert json_format.MessageToDict(rule.requires) == {
        "requiresAny": {
            "requirements": [
                {"providerName": "issuer-0"},
                {"providerName": "issuer-1"},
                {
                    "requiresAll": {
                        "requirements": [
                            {"requiresAny": {"requirements": [one, {"allowMissing": {}}]}}
                            for one in ({"providerName": "issuer-0"}, {"providerName": "issuer-1"})
                        ]
                    }
                },
            ]
        }
    }
    assert config.bypass_cors_preflight


def test_a_filter_is_made_once_until_policy_or_keys_change() -> None:
    made = Made(make_policies(request_authentication(ISSUER.name)), ISSUER.keys)
    first = made.get("jwt")
    assert made.get("jwt") is first

    made.keys = TokenIssuer(ISSUER.name).keys
    second = made.get("jwt")
    assert second.version != first.version

    made.policies = make_policies(ALLOW_ALL)
    assert made.get("jwt").version != second.version


def test_an_emergency_bypass_leaves_the_mode_to_check_where_there_is_one() -> None:
    bypass = Bypass("open", "shop", frozenset(), 1.0)
    made = Made(make_policies(STRICT).under(Overlay(bypasses=(bypass,))))

    def action(name: str, kind: Any, *, with_check: bool) -> int:
        return int(unpacked(made.get(name, with_check=with_check), kind).rules.action)

    assert action("peer-auth-mode", RBAC, with_check=True) == RULES.ALLOW
    assert action("peer-auth-mode", RBAC, with_check=False) == RULES.DENY
    assert action("tcp-peer-auth-mode", NETWORK_RBAC, with_check=True) == RULES.DENY
    assert unpacked(made.get("authz-check"), ExtAuthz)


def node(**metadata: Any) -> Node:
    return json_format.ParseDict({"id": "envoy", "metadata": metadata}, Node())


def test_hints_of_another_form_are_left_out() -> None:
    odd = read_hints(node(labels=["app"], filters={"authz": 1}, validator=7))
    assert odd.labels == {}
    assert odd.validator is None
    assert odd.filters == frozenset()
    many = {f"l{number}": "x" for number in range(MAXIMUM_LABELS + 1)}
    assert len(read_hints(node(labels=many)).labels) == MAXIMUM_LABELS


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return build_mesh(tmp_path, FakeClock())


def test_a_proxy_that_names_no_check_is_denied_what_needs_one(mesh: Mesh) -> None:
    async def story() -> None:
        mesh.policies = make_policies(BY_TOKEN)
        versions = []
        for filters in ([], sorted(ALL_HTTP)):
            async with running(mesh), Proxy(mesh.doors, service="ecds") as proxy:
                proxy.subscribe("authz", type_url=EXTENSION_TYPE, node=node(filters=filters))
                response = await proxy.receive()
                versions.append(response.resources[0].version)
        made = Made(mesh.policies)
        workload = Workload("shop")
        assert versions == [
            made.resources.get("authz", workload, with_check=check).version
            for check in (False, True)
        ]
        assert versions[0] != versions[1]

    asyncio.run(story())


SELECTING = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, rules: [{}]}
"""


def test_the_pods_own_labels_count_and_a_change_of_them_is_pushed(mesh: Mesh) -> None:
    pods: dict[str, dict[str, str]] = {}
    mesh.doors.shared.labels = lambda caller: pods.get(_uid(caller))
    mesh.policies = make_policies(SELECTING)

    async def story() -> None:
        async with running(mesh), Proxy(mesh.doors, service="ecds") as proxy:
            claimed = node(labels={"app": "web"})
            proxy.subscribe("authz", type_url=EXTENSION_TYPE, node=claimed)
            versions = [await version(proxy)]
            for labels in ({"app": "orders"}, {"app": "web", "tier": "1"}):
                pods["uid-web-1"] = labels
                mesh.ledger.wake_pods("test", {"uid-web-2"})
                assert await proxy.is_quiet()
                mesh.ledger.wake_pods("test", {"uid-web-1"})
                versions.append(await version(proxy))
        first, other, again = versions
        assert first == again != other

    asyncio.run(story())


def _uid(caller: Caller) -> str:
    return caller.evidence.pod_uid


async def version(proxy: Proxy) -> str:
    """Return the version of the one resource that comes next."""
    response = await proxy.receive()
    proxy.acknowledge(response)
    (resource,) = response.resources
    return str(resource.version)
