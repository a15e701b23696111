"""Our bundle as a ClusterTrustBundle, which pods project by the name of its signer.

`certificates.k8s.io` has it as v1beta1 or v1alpha1, where the API server has it at all: it is
behind a feature gate. Where it is absent there is nothing to do, and that is no failure. Only our
own trust domain's roots are in it: the kind has no place for the name of another.

Rights: `get`, `create` and `update` on `clustertrustbundles`, and `attest` on the signer.
"""

from dataclasses import dataclass
from typing import Any, Final

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from ca.bundle import TrustBundle
from ca.publication.place import Published, explain
from meshca.api_server import TIMEOUT_SECONDS, ApiServerConnection
from meshca.settings import TrustBundleTarget

GROUP: Final = "certificates.k8s.io"
PLURAL: Final = "clustertrustbundles"
VERSIONS: Final = ("v1", "v1beta1", "v1alpha1")
_NOT_FOUND: Final = 404


@dataclass(frozen=True, slots=True)
class ClusterTrustBundle:
    """The ClusterTrustBundle of one cluster."""

    cluster: str
    connection: ApiServerConnection
    target: TrustBundleTarget
    kind: str = "cluster_trust_bundle"

    @property
    def name(self) -> str:
        """Return the object's name: Kubernetes wants the signer's before a colon."""
        return f"{self.target.signer_name.replace('/', ':')}:{self.target.name}"

    def publish(self, bundle: TrustBundle) -> Published:
        """Make the object hold `bundle`.

        Raises one of `meshca.api_server.FAILURES` when the API server cannot be asked at all.
        """
        api: Any = client.CustomObjectsApi(self.connection.client())  # it returns plain mappings
        try:
            version = find_version(api)
            if version is None:
                return Published(is_absent=True)
            existing = self._read(api, version)
        except ApiException as error:
            self.connection.note(error)
            raise
        spec = {
            "signerName": self.target.signer_name,
            "trustBundle": bundle.pem().decode(),
        }
        if existing is not None and existing.get("spec") == spec:
            return Published()
        try:
            self._write(api, version, existing, spec)
        except ApiException as error:
            self.connection.note(error)
            return Published(behind=1, problems=(f"{self.name}: {explain(error)}",))
        return Published(written=1)

    def _read(self, api: Any, version: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = api.get_cluster_custom_object(
                GROUP, version, PLURAL, self.name, _request_timeout=TIMEOUT_SECONDS
            )
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            return None
        return found

    def _write(
        self, api: Any, version: str, existing: dict[str, Any] | None, spec: dict[str, str]
    ) -> None:
        timeout = {"_request_timeout": TIMEOUT_SECONDS}
        if existing is not None:
            body = {**existing, "spec": spec}  # its resourceVersion: refused if changed meanwhile
            api.replace_cluster_custom_object(GROUP, version, PLURAL, self.name, body, **timeout)
            return
        body = {
            "apiVersion": f"{GROUP}/{version}",
            "kind": "ClusterTrustBundle",
            "metadata": {"name": self.name},
            "spec": spec,
        }
        api.create_cluster_custom_object(GROUP, version, PLURAL, body, **timeout)


def find_version(api: Any) -> str | None:
    """Return the newest version in which the API server has the kind, or None."""
    for version in VERSIONS:
        try:
            listed = api.get_api_resources(GROUP, version, _request_timeout=TIMEOUT_SECONDS)
        except ApiException as error:
            if error.status != _NOT_FOUND:
                raise
            continue
        if any(resource.name == PLURAL for resource in listed.resources):
            return version
    return None
