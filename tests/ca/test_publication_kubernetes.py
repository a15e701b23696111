"""Our bundle in a real API server, written with the rights that our manifests ask for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from ca.bundle import TrustBundle
from ca.publication.cluster_trust_bundle import ClusterTrustBundle
from ca.publication.config_maps import ConfigMaps
from ca.publication.place import Place
from ca.publication.publisher import Publisher
from meshca.api_server import ApiServerConnection
from meshca.metrics import Metrics
from meshca.settings import ConfigMapTarget, TrustBundleTarget
from meshca.settings_values import ApiServer
from tests.builders import TRUST_DOMAIN, make_pki
from tests.deploy.cluster import apply, write_kubeconfig
from tests.deploy.manifests import DIRECTORY
from tests.deploy.test_kubernetes import status
from tests.fakes import FakeClock
from tests.kube import KubeApiServer
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end

FLAGS = (
    "--feature-gates=ClusterTrustBundle=true,ClusterTrustBundleProjection=true",
    "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
)
OLD = TrustBundle(TRUST_DOMAIN, (make_pki(number=1).root,), 1)
NEW = TrustBundle(TRUST_DOMAIN, (*OLD.roots, make_pki(number=2).root), 2)
NAME = "meshca-bundle"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    """An API server that has ClusterTrustBundles, and the rights that our manifests give."""
    with KubeApiServer(tmp_path_factory.mktemp("kube"), flags=FLAGS) as server:
        server.create_namespace("meshca")
        server.create_service_account("meshca", "meshca")
        for document in yaml.safe_load_all((DIRECTORY / "publish" / "10-rbac.yaml").read_text()):
            apply(server, document, dry_run=False)
        yield server


@pytest.fixture
def connection(cluster: KubeApiServer, tmp_path: Path) -> ApiServerConnection:
    """The service's own account, with the rights of deploy/kubernetes and no others."""
    path = tmp_path / "kubeconfig"
    write_kubeconfig(cluster, path, "meshca", "meshca")
    return ApiServerConnection(ApiServer.model_validate({"kubeconfig": str(path)}))


def namespace(cluster: KubeApiServer, name: str, **labels: str) -> str:
    metadata = client.V1ObjectMeta(name=name, labels=labels)
    client.CoreV1Api(cluster.api_client()).create_namespace(client.V1Namespace(metadata=metadata))
    return name


def read(cluster: KubeApiServer, name: str) -> Any:
    """Return the ConfigMap in namespace `name`, or None."""
    try:
        return client.CoreV1Api(cluster.api_client()).read_namespaced_config_map(NAME, name)
    except ApiException as error:
        if error.status != 404:
            raise
        return None


def replace(cluster: KubeApiServer, config_map: Any) -> None:
    core = client.CoreV1Api(cluster.api_client())
    core.replace_namespaced_config_map(NAME, config_map.metadata.namespace, config_map)


def selected(connection: ApiServerConnection, selector: str) -> ConfigMaps:
    return ConfigMaps("test", connection, ConfigMapTarget(selector=selector))


def named(connection: ApiServerConnection, *names: str) -> ConfigMaps:
    return ConfigMaps("test", connection, ConfigMapTarget(namespaces=list(names)))


def test_every_selected_namespace_gets_the_bundle_and_no_other(
    cluster: KubeApiServer, connection: ApiServerConnection
) -> None:
    chosen = [namespace(cluster, f"chosen-{n}", mesh="one") for n in range(3)]
    other = namespace(cluster, "other", mesh="two")

    published = selected(connection, "mesh=one").publish(OLD)

    assert (published.written, published.behind) == (3, 0)
    for name in chosen:
        found = read(cluster, name)
        assert found.data["bundle.pem"].encode() == OLD.pem()
        assert found.data["bundle.json"].encode() == OLD.spiffe_json()
        assert found.metadata.labels == {"app.kubernetes.io/managed-by": "meshca"}
    assert read(cluster, other) is None


def test_what_is_right_is_left_alone_and_a_new_bundle_is_written(
    cluster: KubeApiServer, connection: ApiServerConnection
) -> None:
    name = namespace(cluster, "still", mesh="still")
    place = selected(connection, "mesh=still")
    place.publish(OLD)
    before = read(cluster, name).metadata.resource_version

    assert place.publish(OLD).written == 0
    assert read(cluster, name).metadata.resource_version == before
    assert place.publish(NEW).written == 1
    assert read(cluster, name).data["bundle.pem"].encode() == NEW.pem()


def test_what_somebody_changed_or_deleted_is_corrected(
    cluster: KubeApiServer, connection: ApiServerConnection
) -> None:
    name = namespace(cluster, "changed", mesh="changed")
    place = selected(connection, "mesh=changed")
    place.publish(OLD)
    found = read(cluster, name)
    found.data = {"bundle.pem": "mine", "note": "keep me"}
    found.metadata.labels = {"team": "shop"}
    replace(cluster, found)

    assert place.publish(OLD).written == 1

    corrected = read(cluster, name)
    assert corrected.data["bundle.pem"].encode() == OLD.pem()
    assert corrected.data["note"] == "keep me"
    assert corrected.metadata.labels["team"] == "shop"
    client.CoreV1Api(cluster.api_client()).delete_namespaced_config_map(NAME, name)
    assert place.publish(OLD).written == 1


def test_one_namespace_that_refuses_does_not_hold_up_the_next(
    cluster: KubeApiServer, connection: ApiServerConnection
) -> None:
    name = namespace(cluster, "after")
    frozen = namespace(cluster, "frozen")
    metadata = client.V1ObjectMeta(name=NAME)
    body = client.V1ConfigMap(metadata=metadata, data={"bundle.pem": "x"}, immutable=True)
    client.CoreV1Api(cluster.api_client()).create_namespaced_config_map(frozen, body)

    published = named(connection, "missing", frozen, name).publish(OLD)

    assert (published.written, published.behind) == (1, 2)
    assert published.problems == (
        "namespace missing: 404 Not Found",
        "namespace frozen: 422 Unprocessable Entity",
    )
    assert read(cluster, name).data["bundle.pem"].encode() == OLD.pem()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/configmaps"),
        ("GET", "/api/v1/namespaces/meshca/configmaps/other"),
        ("GET", "/api/v1/secrets"),
        ("DELETE", "/api/v1/namespaces/meshca/configmaps/meshca-bundle"),
        ("DELETE", "/apis/certificates.k8s.io/v1beta1/clustertrustbundles/x"),
    ],
)
def test_the_service_may_do_nothing_else(cluster: KubeApiServer, method: str, path: str) -> None:
    assert status(cluster, method, path) == 403


def bundles(connection: ApiServerConnection, signer: str = "example.org/mesh") -> Any:
    return ClusterTrustBundle("test", connection, TrustBundleTarget(signer_name=signer))


def stored(cluster: KubeApiServer, name: str) -> Any:
    api: Any = client.CustomObjectsApi(cluster.api_client())
    group = "certificates.k8s.io"
    return api.get_cluster_custom_object(group, "v1beta1", "clustertrustbundles", name)


def test_the_cluster_trust_bundle_is_created_updated_and_corrected(
    cluster: KubeApiServer, connection: ApiServerConnection
) -> None:
    place = bundles(connection)
    name = "example.org:mesh:meshca"
    assert place.publish(OLD).written == 1
    assert stored(cluster, name)["spec"] == {
        "signerName": "example.org/mesh",
        "trustBundle": OLD.pem().decode(),
    }
    assert place.publish(OLD).written == 0

    assert place.publish(NEW).written == 1

    assert stored(cluster, name)["spec"]["trustBundle"].encode() == NEW.pem()
    api: Any = client.CustomObjectsApi(cluster.api_client())
    api.delete_cluster_custom_object("certificates.k8s.io", "v1beta1", "clustertrustbundles", name)
    assert place.publish(NEW).written == 1


def test_a_signer_that_we_may_not_speak_for_is_refused(connection: ApiServerConnection) -> None:
    published = bundles(connection, "example.org/other").publish(OLD)

    assert (published.written, published.behind) == (0, 1)
    assert published.problems == ("example.org:other:meshca: 403 Forbidden",)


def test_a_changed_bundle_is_published_at_once_and_an_outage_is_waited_out(
    tmp_path: Path,
) -> None:
    with KubeApiServer(tmp_path) as server:
        namespace(server, "shop")
        connection = ApiServerConnection(
            ApiServer.model_validate({"kubeconfig": str(server.kubeconfig)})
        )
        places: list[Place] = [named(connection, "shop"), bundles(connection)]
        asyncio.run(_outage(server, places))


async def _outage(server: KubeApiServer, places: list[Place]) -> None:
    """This API server has no ClusterTrustBundles: that is no failure."""
    bundle, metrics, clock = OLD, Metrics(), FakeClock()
    publisher = Publisher(places=places, bundle=lambda: bundle, clock=clock, metrics=metrics)
    running = asyncio.create_task(publisher.run())

    def holds(wanted: TrustBundle) -> bool:
        found = read(server, "shop")
        return found is not None and found.data["bundle.pem"].encode() == wanted.pem()

    def behind(kind: str) -> float | None:
        labels = {"cluster": "test", "kind": kind}
        return metrics.registry.get_sample_value("meshca_bundle_publication_behind", labels)

    async def until(what: str, condition: Any) -> None:
        await asyncio.to_thread(wait_until, condition, within_seconds=30, what=what)

    await until("the bundle is there", lambda: holds(OLD))
    await until("absence is no failure", lambda: behind("cluster_trust_bundle") == 0)
    bundle = NEW
    publisher.wake()
    await until("the new bundle is there", lambda: holds(NEW))
    await asyncio.to_thread(server.stop)
    bundle = OLD
    publisher.wake()
    await until("the outage is seen", lambda: behind("config_map") == 1)
    await asyncio.to_thread(server.start)
    publisher.wake()
    await until("the bundle is there after the outage", lambda: holds(OLD))
    await until("nothing is behind", lambda: behind("config_map") == 0)
    running.cancel()
