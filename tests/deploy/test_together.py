"""The manifests work together: the service, an API server, and the sample behind a real Envoy.

The service runs with its ConfigMap and the rights of its service account; the sample's Envoy runs
with its ConfigMap and a token of its pod. What differs from a cluster is only where files and ports
are.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from meshca.demo.app import EchoApp
from meshca.demo.ports import free_port
from tests.deploy.cluster import apply, write_kubeconfig
from tests.deploy.manifests import SAMPLE, SERVICE, Manifest, find, pod_templates
from tests.deploy.running import LocalPod
from tests.envoy import RunningEnvoy
from tests.kube import KubeApiServer
from tests.openssl import make_authority
from tests.real_parts import envoy, wait_until

pytestmark = pytest.mark.end_to_end

MESHCA = Path(sys.executable).with_name("meshca")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"


def spec(directory: Path, deployment: str) -> Manifest:
    found: Manifest = find(directory, "Deployment", deployment)["spec"]["template"]["spec"]
    return found


def files(directory: Path, config_map: str) -> dict[str, str]:
    found: dict[str, str] = find(directory, "ConfigMap", config_map)["data"]
    return found


@dataclass(frozen=True, slots=True)
class Service:
    """The running service: its mesh port and its roots."""

    port: int
    roots: str


@pytest.fixture(scope="module")
def service(cluster: KubeApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service as its Deployment says, ready by its own probe."""
    envoy()
    offline = tmp_path_factory.mktemp("offline")
    make_authority(offline)
    kubeconfig = offline / "kubeconfig.yaml"
    write_kubeconfig(cluster, kubeconfig, "meshca", "meshca")
    mesh, metrics = free_port(), free_port()
    (init,), (main,) = (spec(SERVICE, "meshca")[each] for each in ("initContainers", "containers"))
    pod = LocalPod(tmp_path_factory.mktemp("meshca"))
    pod.replacements = {
        "0.0.0.0:8443": f"127.0.0.1:{mesh}",
        "0.0.0.0:9464": f"127.0.0.1:{metrics}",
        "https://kubernetes.default.svc.cluster.local": cluster.issuer,
        "api_server: {}": f"api_server: {{kubeconfig: {kubeconfig}}}",
    }
    pod.mount(main)
    pod.fill("config", files(SERVICE, "meshca-config"))
    pod.fill("policies", files(SERVICE, "meshca-policies"))
    roots = (offline / "root.pem").read_text()
    pod.fill("trust-bundle", {"root.pem": roots})
    for name in ("chain.pem", "intermediate.key"):
        pod.fill("upstream", {name: (offline / name).read_text()})
    assert pod.start(init).wait(10) == 0, pod.log(init).read_text()
    process = pod.start(main, image_runs="meshca")
    probe = main["readinessProbe"]["httpGet"]["path"]
    try:
        wait_until(
            lambda: answers(process, f"http://127.0.0.1:{metrics}{probe}"),
            within_seconds=30,
            what=f"the service is ready, see {pod.log(main)}",
        )
        yield Service(mesh, roots)
    finally:
        process.terminate()
        process.wait(20)


def answers(process: "subprocess.Popen[bytes]", url: str) -> bool:
    assert process.poll() is None, "the service has ended: see its log"
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def sample(
    directory: Path, service: Service, token: str, *, inbound: int, app: int
) -> RunningEnvoy:
    """Return the sample's Envoy, made to run here."""
    (sidecar,) = spec(SAMPLE, "orders")["initContainers"]
    admin = free_port()
    pod = LocalPod(directory)
    pod.mount(sidecar)
    ports = {8443: service.port, 15000: admin, 15006: inbound, 8080: app}
    for old, new in ports.items():
        pod.replacements[f'"port_value": {old}'] = f'"port_value": {new}'
    # The address only: the server's name stays pinned.
    pod.replacements['"address": "meshca.meshca.svc"'] = '"address": "127.0.0.1"'
    pod.fill("token", {"token": token})
    pod.fill("trust-bundle", {"root.pem": service.roots})
    pod.fill("bootstrap", files(SAMPLE, "orders-envoy"))
    return RunningEnvoy(pod.path(sidecar["args"][1]), admin_port=admin)


def caller(
    directory: Path, service: Service, token: str, *, outbound: int, orders: int
) -> RunningEnvoy:
    """Return the Envoy of a workload whose port `outbound` leads to the sample."""
    (directory / "token").write_text(token)
    (directory / "root.pem").write_text(service.roots)
    admin = free_port()
    command = [
        *(str(MESHCA), "envoy", "bootstrap", "--server", f"127.0.0.1:{service.port}"),
        *("--server-name", "meshca.meshca.svc", "--trust-domain", "example.org"),
        *("--token-file", "token", "--trust-bundle", "root.pem", "--admin", str(admin)),
        *("--outbound", f"{outbound}=127.0.0.1:{orders}={ORDERS}"),
    ]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return RunningEnvoy(directory / "envoy.json", admin_port=admin)


def token_of(cluster: KubeApiServer, account: str) -> str:
    """Return the token that the kubelet would project into a pod of `account`."""
    (pod,) = [pod for pod in pod_templates() if pod["metadata"]["name"] == "orders"]
    pod["metadata"]["name"] = f"{account}-0"
    pod["spec"] |= {"serviceAccountName": account, "nodeName": "node-1"}
    apply(cluster, pod, dry_run=False)
    return cluster.request_token("shop", account, audiences=["meshca"], pod=f"{account}-0")


def test_the_sample_answers_whom_its_policy_names(
    service: Service, cluster: KubeApiServer, tmp_path: Path
) -> None:
    cluster.create_service_account("shop", "frontend")
    (tmp_path / "orders").mkdir()
    (tmp_path / "frontend").mkdir()
    inbound, outbound = free_port(), free_port()
    with (
        EchoApp() as app,
        sample(
            tmp_path / "orders",
            service,
            token_of(cluster, "orders"),
            inbound=inbound,
            app=app.port,
        ) as orders,
        caller(
            tmp_path / "frontend",
            service,
            token_of(cluster, "frontend"),
            outbound=outbound,
            orders=inbound,
        ) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()

        assert orders.identities() == {ORDERS}
        assert frontend.call(outbound, "/items/1").status_code == 200
        assert frontend.call(outbound, "/items/1", method="POST").status_code == 403
        assert frontend.call(outbound, "/admin").status_code == 403
