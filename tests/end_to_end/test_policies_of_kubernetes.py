"""Policies written with kubectl are in force, and stay while the cluster is away and we restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.authz.kubernetes.cluster import install, put
from tests.end_to_end.server import RunningServer, spiffe_id
from tests.kube import KubeApiServer
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    with KubeApiServer(tmp_path_factory.mktemp("kube")) as server:
        server.create_namespace("shop")
        install(server)
        yield server


def settings(cluster: KubeApiServer) -> dict[str, Any]:
    kubeconfig = {"kubeconfig": str(cluster.kubeconfig)}
    return {
        "policy": {
            "sources": [{"kubernetes": kubeconfig}],
            "pods": [{"cluster": "development", **kubeconfig}],
        }
    }


def names(server: RunningServer) -> list[str]:
    return [policy["name"] for policy in server.query("authz", "get")["policies"]]


def test_policies_of_a_cluster_are_in_force_and_outlive_its_api_server(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "web")
    with RunningServer(tmp_path / "server", settings=settings(cluster)) as server:
        assert names(server) == ["web"]
        caller = spiffe_id("frontend").removeprefix("spiffe://")
        put(cluster, "api", spec={"rules": [{"from": [{"source": {"principals": [caller]}}]}]})
        wait_until(lambda: names(server) == ["api", "web"], within_seconds=30, what="the policy")
        entry = server.query("audit", "query", "--kind", "policy_change")["entries"][0]
        assert (entry["actor"], entry["details"]["added"]) == ("kubernetes", ["shop/api"])
        assert caller in entry["details"]["diff"]

        cluster.stop()
        wait_until(
            lambda: server.query("status")["policies"]["stale"] == ["kubernetes"],
            within_seconds=30,
            what="it is said",
        )
        (source, _) = server.query("authz", "get")["sources"]
        assert (source["objects"], len(source["problems"])) == (2, 3)
        assert source["stale_since"] is not None
        assert server.is_ready()
        server.stop()
        server.start()
        assert names(server) == ["api", "web"]
        cluster.start()
        wait_until(
            lambda: server.query("status")["policies"]["stale"] == [],
            within_seconds=60,
            what="it is current again",
        )
