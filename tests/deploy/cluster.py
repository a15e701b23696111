"""Manifests applied to a real API server, and the kubeconfig of one of its service accounts."""

from pathlib import Path
from typing import Any

import yaml
from kubernetes.dynamic import DynamicClient

from tests.deploy.manifests import Manifest
from tests.kube import KubeApiServer

REAL = ("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding")
"""What is created for real: without it the rest would not be looked at."""


def apply(server: KubeApiServer, document: Manifest, *, dry_run: bool) -> Any:
    """Apply `document` on the server's side, refusing unknown fields; return the raw response."""
    dynamic: Any = DynamicClient  # its methods are not typed
    client = dynamic(server.api_client())
    resource = client.resources.get(api_version=document["apiVersion"], kind=document["kind"])
    return client.server_side_apply(
        resource,
        body=document,
        name=document["metadata"]["name"],
        namespace=document["metadata"].get("namespace"),
        field_manager="meshca-test",
        query_params=[("fieldValidation", "Strict")],
        dry_run="All" if dry_run else None,
        serialize=False,
    )


def write_kubeconfig(server: KubeApiServer, path: Path, namespace: str, account: str) -> None:
    """Write the kubeconfig of a service account: all the rights of its pod, and no more."""
    token = server.request_token(namespace, account, audiences=[server.issuer])
    authority = str(server.directory / "ca.pem")
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "c", "cluster": {"server": server.url, "certificate-authority": authority}}
        ],
        "users": [{"name": "u", "user": {"token": token}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
