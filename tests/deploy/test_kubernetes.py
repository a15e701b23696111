"""The manifests against a real API server: accepted in a dry run, and no more allowed than needed.

The API server applies its own defaults, strict field validation and Pod Security admission.
"""

from typing import Any

import pytest
import urllib3

from tests.deploy.cluster import apply
from tests.deploy.manifests import SERVICE, Manifest, describe, documents, everything, pod_templates
from tests.kube import KubeApiServer

pytestmark = pytest.mark.end_to_end


def status(cluster: KubeApiServer, method: str, path: str, **body: Any) -> int:
    """Return how the API server answers the service's own service account."""
    token = cluster.request_token("meshca", "meshca", audiences=[cluster.issuer])
    with urllib3.PoolManager(ca_certs=str(cluster.directory / "ca.pem"), retries=False) as pool:
        response = pool.request(
            method,
            cluster.url + path,
            headers={"authorization": f"Bearer {token}"},
            **({"json": body} if body else {}),
        )
    return response.status


@pytest.mark.parametrize("document", everything(), ids=describe)
def test_accepts_each_manifest_without_a_warning(
    cluster: KubeApiServer, document: Manifest
) -> None:
    response = apply(cluster, document, dry_run=True)

    assert response.status in (200, 201)
    assert "Warning" not in response.headers


@pytest.mark.parametrize("pod", pod_templates(), ids=describe)
def test_admits_the_pods_under_the_restricted_standard(
    cluster: KubeApiServer, pod: Manifest
) -> None:
    response = apply(cluster, pod, dry_run=True)

    assert response.status in (200, 201)


def test_lets_the_service_review_tokens_and_read_the_keys(cluster: KubeApiServer) -> None:
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": "x", "audiences": ["meshca"]},
    }

    reviews = status(cluster, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", **review)

    assert reviews == 201
    assert status(cluster, "GET", "/openid/v1/jwks") == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/namespaces/meshca/secrets",
        "/api/v1/namespaces/meshca/configmaps",
        "/api/v1/pods",
        "/api/v1/nodes",
    ],
)
def test_lets_the_service_read_nothing_else(cluster: KubeApiServer, path: str) -> None:
    assert status(cluster, "GET", path) == 403


def test_every_namespaced_manifest_names_its_namespace() -> None:
    cluster_wide = {"Namespace", "ClusterRole", "ClusterRoleBinding"}

    nameless = [
        describe(document)
        for document in documents(SERVICE)
        if document["kind"] not in cluster_wide and "namespace" not in document["metadata"]
    ]

    assert nameless == []
