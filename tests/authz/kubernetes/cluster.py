"""A real API server with the definitions of deploy/kubernetes/crds, and objects in it."""

import contextlib
from typing import Any

import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from tests.kube import KubeApiServer
from tests.real_parts import ROOT, wait_until

CRDS = ROOT / "deploy" / "kubernetes" / "crds"
GROUP = "security.istio.io"
PLURALS = ("authorizationpolicies", "peerauthentications", "requestauthentications")


def definitions(server: KubeApiServer) -> Any:
    return client.ApiextensionsV1Api(server.api_client())


def install(server: KubeApiServer, *plurals: str) -> None:
    """Create the definitions of `plurals` (all unless said) and wait until they are served."""
    wanted = plurals or PLURALS
    for plural in wanted:
        body = yaml.safe_load((CRDS / f"{plural}.yaml").read_text())
        definitions(server).create_custom_resource_definition(body)
    wait_until(
        lambda: all(_is_served(server, plural) for plural in wanted),
        within_seconds=60,
        what="the definitions to be served",
    )


def remove(server: KubeApiServer, *plurals: str) -> None:
    """Delete definitions, and with them their objects, and wait until they are gone."""
    for plural in plurals:
        definitions(server).delete_custom_resource_definition(f"{plural}.{GROUP}")
    wait_until(
        lambda: not any(_is_there(server, plural) for plural in plurals),
        within_seconds=60,
        what="the definitions to be gone",
    )


def _is_served(server: KubeApiServer, plural: str) -> bool:
    try:
        custom(server).list_cluster_custom_object(GROUP, "v1", plural)
    except ApiException:
        return False
    return True


def _is_there(server: KubeApiServer, plural: str) -> bool:
    try:
        definitions(server).read_custom_resource_definition(f"{plural}.{GROUP}")
    except ApiException as error:
        return bool(error.status != 404)
    return True


def custom(server: KubeApiServer) -> Any:
    return client.CustomObjectsApi(server.api_client())


def put(server: KubeApiServer, name: str, *, namespace: str = "shop", plural: str = PLURALS[0],
        spec: dict[str, Any] | None = None, version: str = "v1") -> None:  # fmt: skip
    """Create or replace an object."""
    api = custom(server)
    kinds = {"authorizationpolicies": "AuthorizationPolicy",
             "peerauthentications": "PeerAuthentication"}  # fmt: skip
    body = {
        "apiVersion": f"{GROUP}/{version}",
        "kind": kinds[plural],
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec if spec is not None else {"rules": [{}]},
    }
    with contextlib.suppress(ApiException):
        found = api.get_namespaced_custom_object(GROUP, version, namespace, plural, name)
        body["metadata"] = {**found["metadata"]}
        api.replace_namespaced_custom_object(GROUP, version, namespace, plural, name, body)
        return
    api.create_namespaced_custom_object(GROUP, version, namespace, plural, body)


def delete(server: KubeApiServer, name: str, *, namespace: str = "shop",
           plural: str = PLURALS[0]) -> None:  # fmt: skip
    """Delete an object."""
    custom(server).delete_namespaced_custom_object(GROUP, "v1", namespace, plural, name)


def clear(server: KubeApiServer) -> None:
    """Delete every object of the kinds that are there."""
    for plural in PLURALS:
        with contextlib.suppress(ApiException):
            for item in custom(server).list_cluster_custom_object(GROUP, "v1", plural)["items"]:
                metadata = item["metadata"]
                delete(server, metadata["name"], namespace=metadata["namespace"], plural=plural)
