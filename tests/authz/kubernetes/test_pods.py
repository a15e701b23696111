"""The labels of pods: of a real API server, of many pods, and while nobody answers."""

import asyncio
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from kubernetes import client

from authz.kubernetes.pods import PodLabels, PodReader
from authz.kubernetes.reflector import Broken, Changed, Deleted, Listed
from meshca.api_server import ApiServerConnection
from meshca.clock import SystemClock
from meshca.metrics import Metrics
from meshca.settings_values import ApiServer
from tests.authz.kubernetes.scripted import pod
from tests.authz.kubernetes.world import WAITS
from tests.kube import KubeApiServer


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    with KubeApiServer(tmp_path_factory.mktemp("kube")) as server:
        server.create_namespace("shop")
        server.create_service_account("shop", "orders")
        yield server


def informer(connections: Mapping[str, ApiServerConnection]) -> PodLabels:
    return PodLabels(connections=connections, clock=SystemClock(), metrics=Metrics(), waits=WAITS)


def relabel(cluster: KubeApiServer, name: str, **labels: str) -> None:
    core: Any = client.CoreV1Api(cluster.api_client())
    core.patch_namespaced_pod(name, "shop", {"metadata": {"labels": labels}})


async def until(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise AssertionError(f"not within a minute: {what}") from error


@pytest.mark.end_to_end
def test_follows_the_labels_of_pods_and_keeps_them_while_the_api_server_is_away(
    cluster: KubeApiServer,
) -> None:
    settings = ApiServer.model_validate({"kubeconfig": str(cluster.kubeconfig)})
    connection = ApiServerConnection(settings)
    pods = informer({"prod": connection})
    told: list[tuple[str, frozenset[str]]] = []
    pods.subscribe(lambda *change: told.append(change))

    async def story() -> None:
        uid = cluster.create_pod("shop", "orders-0", "orders")
        assert pods.labels_of("prod", uid) is None
        running = asyncio.create_task(pods.run())
        await until(lambda: pods.labels_of("prod", uid) == {}, "the pod")
        relabel(cluster, "orders-0", app="orders")
        await until(lambda: pods.labels_of("prod", uid) == {"app": "orders"}, "its label")
        assert ("prod", frozenset({uid})) in told

        await asyncio.to_thread(cluster.stop)
        await until(lambda: "prod" in pods.problems(), "the problem")
        assert pods.labels_of("prod", uid) == {"app": "orders"}
        await asyncio.to_thread(cluster.start)
        await until(lambda: not pods.problems(), "the end of it")
        cluster.delete_pod("shop", "orders-0")
        await until(lambda: pods.labels_of("prod", uid) is None, "its end")
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(story())
    connection.close()


def test_tells_which_pods_are_not_what_they_were_and_nothing_else() -> None:
    pods = informer({})
    told: list[set[str]] = []
    end = pods.subscribe(lambda _, uids: told.append(set(uids)))
    read = PodReader().read

    def labels(**given: str) -> Mapping[str, str]:
        return read(pod("x", "1", **given))[1]

    pods._take("prod", Listed({"a": labels(app="a"), "b": labels()}))
    pods._take("prod", Listed({"a": labels(app="a"), "c": labels()}))
    pods._take("prod", Changed("a", labels(app="a")))
    pods._take("prod", Changed("a", labels(app="z")))
    pods._take("prod", Broken("503"))
    pods._take("prod", Deleted("a"))
    pods._take("prod", Deleted("unknown"))
    end()
    pods._take("prod", Deleted("c"))
    assert told == [{"a", "b"}, {"b", "c"}, {"a"}, {"a"}]
    assert (pods.labels_of("prod", "c"), pods.labels_of("other", "a")) == (None, None)


def test_labels_never_change_under_who_holds_them() -> None:
    _, labels = PodReader().read(pod("a", "1", app="a"))
    with pytest.raises(TypeError):
        labels["app"] = "b"  # type: ignore[index]  # on purpose


def test_a_hundred_thousand_pods_fit_in_tens_of_megabytes() -> None:
    reader = PodReader()
    tracemalloc.start()
    held = dict(
        reader.read(pod(f"{n:032x}-uid", "1", app=f"app-{n // 50}", hash=f"{n // 25:x}"))
        for n in range(100_000)
    )
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held) == 100_000
    assert used < 60 * 1024 * 1024
