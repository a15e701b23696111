"""What reading policies from a cluster needs, on a real server: the definitions, the least rights.

Written as Istio's own, so that documents for Istio are taken unchanged.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from tests.authz.kubernetes.cluster import custom, put
from tests.authz.kubernetes.world import running
from tests.deploy.cluster import REAL, apply, write_kubeconfig
from tests.deploy.manifests import DIRECTORY, Manifest, describe, documents, everything
from tests.kube import KubeApiServer
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end

CRDS = documents(DIRECTORY / "crds")
RIGHTS = documents(DIRECTORY / "policies")
KINDS = {
    "AuthorizationPolicy": "authorizationpolicies",
    "PeerAuthentication": "peerauthentications",
    "RequestAuthentication": "requestauthentications",
}
BASE = "/apis/security.istio.io"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    """An API server with the service's account, its rights, and the definitions."""
    with KubeApiServer(tmp_path_factory.mktemp("kube")) as server:
        for document in (*everything(), *RIGHTS, *CRDS):
            if document["kind"] in (*REAL, "CustomResourceDefinition"):
                response = apply(server, document, dry_run=False)
                assert "Warning" not in response.headers, response.headers
        wait_until(
            lambda: all(
                ask(server, "GET", f"{BASE}/v1/{p}", admin=True) == 200 for p in KINDS.values()
            ),
            within_seconds=60,
            what="the definitions to be served",
        )
        yield server


def ask(
    server: KubeApiServer, method: str, path: str, *, admin: bool = False, body: Any = None
) -> int:
    """Return how the API server answers the service's account, or an administrator."""
    files: dict[str, Any] = {}
    headers = {}
    if admin:
        files = {
            "cert_file": str(server.directory / "admin.pem"),
            "key_file": str(server.directory / "admin.key"),
        }
    else:
        token = server.request_token("meshca", "meshca", audiences=[server.issuer])
        headers = {"authorization": f"Bearer {token}"}
    ca_certs = str(server.directory / "ca.pem")
    with urllib3.PoolManager(ca_certs=ca_certs, retries=False, **files) as pool:
        more = {} if body is None else {"json": body}
        response = pool.request(
            method, server.url + path, headers=headers, preload_content=False, timeout=10.0, **more
        )
        response.close()
    return response.status


@pytest.mark.parametrize("document", CRDS, ids=describe)
def test_the_definitions_are_istios_by_name_and_versions(document: Manifest) -> None:
    spec = document["spec"]
    assert spec["names"]["plural"] == KINDS[spec["names"]["kind"]]
    assert document["metadata"]["name"] == f"{spec['names']['plural']}.security.istio.io"
    assert (spec["group"], spec["scope"]) == ("security.istio.io", "Namespaced")
    assert [(v["name"], v["served"], v["storage"]) for v in spec["versions"]] == [
        ("v1", True, True),
        ("v1beta1", True, False),
    ]


def test_the_definitions_are_all_kinds_that_are_read() -> None:
    assert {document["spec"]["names"]["kind"] for document in CRDS} == set(KINDS)


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_whole_policy_is_kept_as_it_was_written(server: KubeApiServer, version: str) -> None:
    text = """\
    selector: {matchLabels: {app: orders}}
    action: DENY
    rules:
      - from: [{source: {notPrincipals: ["*"], ipBlocks: [10.0.0.0/8]}}]
        when: [{key: "request.headers[x]", values: [a]}]
    """
    spec = yaml.safe_load(text)
    put(server, "whole", namespace="meshca", version=version, spec=spec)
    kept = custom(server).get_namespaced_custom_object(
        "security.istio.io", "v1", "meshca", "authorizationpolicies", "whole"
    )
    assert kept["spec"] == spec


@pytest.mark.parametrize("plural", [*KINDS.values()])
@pytest.mark.parametrize("query", ["", "?watch=true&timeoutSeconds=1"], ids=["list", "watch"])
def test_lets_the_service_read_policies(server: KubeApiServer, plural: str, query: str) -> None:
    assert ask(server, "GET", f"{BASE}/v1/{plural}{query}") == 200


@pytest.mark.parametrize("query", ["", "?watch=true&timeoutSeconds=1"], ids=["list", "watch"])
def test_lets_the_service_read_pods(server: KubeApiServer, query: str) -> None:
    assert ask(server, "GET", f"/api/v1/pods{query}") == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{BASE}/v1/namespaces/meshca/authorizationpolicies"),
        ("DELETE", f"{BASE}/v1/namespaces/meshca/authorizationpolicies/whole"),
        ("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"),
        ("GET", "/api/v1/secrets"),
        ("GET", "/api/v1/namespaces"),
        ("DELETE", "/api/v1/namespaces/meshca/pods/x"),
    ],
)
def test_lets_the_service_do_nothing_else(server: KubeApiServer, method: str, path: str) -> None:
    body: Any = {} if method == "POST" else None
    assert ask(server, method, path, body=body) == 403


def test_the_source_works_with_these_rights(server: KubeApiServer, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig.yaml"
    write_kubeconfig(server, kubeconfig, "meshca", "meshca")
    put(server, "web", namespace="meshca")

    async def story() -> None:
        async with running(kubeconfig, tmp_path) as world:
            assert "web" in world.in_force
            put(server, "late", namespace="meshca")
            await world.until(lambda: "late" in world.in_force, "a policy that came later")
            assert world.status.problems == ()

    asyncio.run(story())
