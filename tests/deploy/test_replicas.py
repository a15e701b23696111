"""The patch for several replicas, applied by a real API server to the manifest it is for."""

from typing import Any

import pytest
import yaml
from kubernetes.client import AppsV1Api

from tests.deploy.cluster import apply
from tests.deploy.manifests import SERVICE, find
from tests.kube import KubeApiServer
from tests.real_parts import ROOT

pytestmark = pytest.mark.end_to_end

PATCH = ROOT / "deploy" / "kubernetes" / "replicas" / "patch.yaml"


def test_each_pod_has_a_name_and_the_database_and_no_volume_to_share(
    cluster: KubeApiServer,
) -> None:
    apply(cluster, find(SERVICE, "Deployment", "meshca"), dry_run=False)
    apps = AppsV1Api(cluster.api_client())
    try:
        patched: Any = apps.patch_namespaced_deployment(
            "meshca",
            "meshca",
            yaml.safe_load(PATCH.read_text()),
            dry_run="All",
            field_validation="Strict",
        )
    finally:
        apps.delete_namespaced_deployment("meshca", "meshca")

    assert (patched.spec.replicas, patched.spec.strategy.type) == (3, "RollingUpdate")
    pod = patched.spec.template.spec
    (container,) = pod.containers
    env = {variable.name: variable for variable in container.env}
    assert env["MESHCA_REPLICA"].value_from.field_ref.field_path == "metadata.name"
    assert env["MESHCA_DATABASE"].value_from.secret_key_ref.name == "meshca-database"
    assert "MESHCA_CONFIG" in env, "what was there stays"
    (data,) = [volume for volume in pod.volumes if volume.name == "data"]
    assert (data.persistent_volume_claim, data.empty_dir is not None) == (None, True)
