"""The Kubernetes manifests say what the program needs: read as text, without a cluster."""

import re
import shlex
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authz.load import load_policies
from meshca import settings
from tests.deploy.manifests import (
    ADMIN,
    SAMPLE,
    SERVICE,
    Manifest,
    containers,
    describe,
    everything,
    find,
    pod_templates,
)

PODS = pod_templates()
BOOTSTRAP = SAMPLE / "20-bootstrap.yaml"


def config(directory: Path) -> settings.Settings:
    path = directory / "meshca.yaml"
    path.write_text(find(SERVICE, "ConfigMap", "meshca-config")["data"]["meshca.yaml"])
    return settings.load(path, environment={})


def bootstrap_command() -> list[str]:
    """Return the arguments after `meshca` in the comment that heads the bootstrap ConfigMap."""
    comment = BOOTSTRAP.read_text().partition("apiVersion:")[0]
    text = re.sub(r"^# ?", "", comment, flags=re.MULTILINE).replace("\\\n", "")
    (command,) = re.findall(r"^ +meshca (.*)$", text, re.MULTILINE)
    return shlex.split(command)


def mounts(container: Manifest) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}


def test_the_configuration_loads(tmp_path: Path) -> None:
    loaded = config(tmp_path)

    assert loaded.upstream.kind == "disk"
    (cluster,) = loaded.clusters
    assert (cluster.audiences, cluster.validation) == (["meshca"], "both")
    assert cluster.keys is not None
    assert cluster.keys.api_server is not None


def test_the_policies_load(tmp_path: Path) -> None:
    policy = config(tmp_path).policy
    texts = find(SERVICE, "ConfigMap", "meshca-policies")["data"].items()

    loaded = load_policies(
        texts,
        trust_domain="example.org",
        root_namespace=policy.root_namespace,
        default=policy.default,
    )

    assert [policy.name for policy in loaded.policies] == ["orders-readers"]
    assert loaded.warnings == ()


def test_every_file_of_the_configuration_is_mounted(tmp_path: Path) -> None:
    loaded = config(tmp_path)
    (container,) = find(SERVICE, "Deployment", "meshca")["spec"]["template"]["spec"]["containers"]
    assert isinstance(loaded.upstream, settings.Disk)
    upstream = loaded.upstream
    files = [upstream.root, upstream.chain, upstream.key, loaded.data_dir]
    files += [s.directory / "x.yaml" for s in loaded.policy.sources if s.directory is not None]

    directories = {str(file.parent) for file in files if file is not None}

    assert directories <= set(mounts(container))


def test_the_service_listens_where_its_ports_and_names_say(tmp_path: Path) -> None:
    loaded = config(tmp_path)
    deployment = find(SERVICE, "Deployment", "meshca")
    service = find(SERVICE, "Service", "meshca")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    assert loaded.listen.mesh == f"0.0.0.0:{ports['mesh']}"
    assert loaded.listen.metrics == f"0.0.0.0:{ports['metrics']}"
    namespace = service["metadata"]["namespace"]
    assert f"{service['metadata']['name']}.{namespace}.svc" in loaded.server_names
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}


def test_the_admin_door_is_off_and_its_service_and_policy_speak_of_one_port(tmp_path: Path) -> None:
    service = find(ADMIN, "Service", "meshca-admin")["spec"]
    policy = find(ADMIN, "NetworkPolicy", "meshca-admin")["spec"]
    pod = find(SERVICE, "Deployment", "meshca")["spec"]["template"]["metadata"]["labels"]
    (rule,) = policy["ingress"]
    readme = (SERVICE / "README.md").read_text()

    assert config(tmp_path).listen.admin is None
    assert service["ports"][0]["targetPort"] == rule["ports"][0]["port"]
    assert f"listen.admin: 0.0.0.0:{rule['ports'][0]['port']}" in readme
    assert service["selector"].items() <= pod.items()
    assert policy["podSelector"]["matchLabels"] == service["selector"]
    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"meshca.io/admin": "true"}}}]


def test_only_one_pod_holds_the_sqlite_database() -> None:
    spec = find(SERVICE, "Deployment", "meshca")["spec"]

    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


def test_the_service_may_review_tokens_and_nothing_else() -> None:
    roles = [d for d in everything() if d["kind"] in ("ClusterRole", "Role")]

    (role,) = roles
    assert role["rules"] == [
        {
            "apiGroups": ["authentication.k8s.io"],
            "resources": ["tokenreviews"],
            "verbs": ["create"],
        }
    ]


def test_the_bootstrap_is_what_the_command_writes(tmp_path: Path) -> None:
    meshca = Path(sys.executable).with_name("meshca")

    subprocess.run([meshca, *bootstrap_command()], cwd=tmp_path, check=True, capture_output=True)

    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == find(SAMPLE, "ConfigMap", "orders-envoy")["data"]


def test_the_bootstrap_reads_what_the_pod_mounts() -> None:
    (pod,) = [pod for pod in PODS if pod["metadata"]["name"] == "orders"]
    (envoy,) = [c for c in containers(pod) if c["name"] == "envoy"]
    options = dict(zip(bootstrap_command()[2::2], bootstrap_command()[3::2], strict=True))

    where = mounts(envoy)

    assert where[options["--read-from"]] == "bootstrap"
    assert where[str(Path(options["--trust-bundle"]).parent)] == "trust-bundle"
    assert where[str(Path(options["--token-file"]).parent)] == "token"
    assert f"{options['--read-from']}/{options['--write']}" in envoy["args"]


def test_the_sample_asks_for_a_token_that_the_service_accepts(tmp_path: Path) -> None:
    (pod,) = [pod for pod in PODS if pod["metadata"]["name"] == "orders"]
    (volume,) = [v for v in pod["spec"]["volumes"] if v["name"] == "token"]
    (source,) = volume["projected"]["sources"]
    token = source["serviceAccountToken"]

    assert token["audience"] in config(tmp_path).clusters[0].audiences
    assert timedelta(seconds=token["expirationSeconds"]) == timedelta(hours=1)
    assert pod["spec"]["automountServiceAccountToken"] is False


@pytest.mark.parametrize("pod", PODS, ids=describe)
def test_no_container_has_more_than_it_needs(pod: Manifest) -> None:
    security = pod["spec"]["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] != 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "limits" in container["resources"]


@pytest.mark.parametrize("pod", PODS, ids=describe)
def test_every_image_is_pinned(pod: Manifest) -> None:
    for container in containers(pod):
        name, colon, tag = container["image"].rpartition(":")
        assert colon, f"{name} has no tag"
        assert re.search(r"\d+\.\d+\.\d+", tag)


@pytest.mark.parametrize("document", everything(), ids=describe)
def test_no_manifest_holds_a_secret(document: Manifest) -> None:
    text: Any = str(document)

    assert document["kind"] != "Secret"
    assert "PRIVATE KEY" not in text
