"""Policies as custom resources of a real API server: as they come, and while it is away."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from authz.kubernetes.kept import read_kept
from authz.kubernetes.reflector import Waits
from meshca.errors import InvalidDocument, Unavailable
from tests.authz.builders import document, to_yaml
from tests.authz.kubernetes.cluster import PLURALS, clear, delete, install, put, remove
from tests.authz.kubernetes.scripted import Answer, page, serving
from tests.authz.kubernetes.world import WAITS, World, running
from tests.kube import KubeApiServer

pytestmark = pytest.mark.end_to_end

PEERS = "peerauthentications"


@pytest.fixture(scope="module")
def module_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    with KubeApiServer(tmp_path_factory.mktemp("kube")) as server:
        server.create_namespace("shop")
        install(server)
        yield server


@pytest.fixture
def cluster(module_cluster: KubeApiServer) -> KubeApiServer:
    """The API server, running, without policies."""
    clear(module_cluster)
    return module_cluster


def run(
    cluster: KubeApiServer,
    tmp_path: Path,
    story: Callable[[World], Awaitable[None]],
    *,
    policies: Path | None = None,
    waits: Waits = WAITS,
) -> None:
    async def whole() -> None:
        async with running(cluster.kubeconfig, tmp_path, policies=policies, waits=waits) as world:
            await story(world)

    asyncio.run(whole())


def test_objects_are_in_force_as_they_come_and_change_and_go(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "web")

    async def story(world: World) -> None:
        assert world.in_force == ["web"]
        policy = world.loader.state.current.policies[0]
        assert policy.source == "kubernetes/shop/AuthorizationPolicy/web"

        put(cluster, "api", version="v1beta1")
        await world.until_in_force("web", "api")
        put(cluster, "api", spec={"action": "DENY", "rules": [{}]})
        await world.until(
            lambda: str(world.loader.state.current.policies[0].action) == "DENY", "the change"
        )
        assert (world.changes[-1].change.changed, world.changes[-1].origin) == (
            ("shop/api",),
            "kubernetes",
        )
        assert '+    "action": "DENY",' in world.changes[-1].diff

        put(cluster, "strict", plural=PEERS, spec={"mtls": {"mode": "STRICT"}})
        peers = world.loader.state
        await world.until(lambda: len(peers.current.peer_authentications) == 1, "another kind")
        delete(cluster, "web")
        await world.until_in_force("api")
        assert (world.status.problems, world.status.stale_since) == ((), None)
        assert world.value("meshca_policy_source_stale") == 0

    run(cluster, tmp_path, story)


def test_a_kind_that_vanishes_never_means_no_policies(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "web")
    put(cluster, "api")

    async def story(world: World) -> None:
        await asyncio.to_thread(remove, cluster, "authorizationpolicies")
        await world.until(lambda: bool(world.status.problems), "a problem")
        problem = world.status.problems[0]
        assert problem == "authorizationpolicies: the API server does not have this kind"
        assert world.status.stale_since is not None
        assert world.value("meshca_policy_source_stale") == 1
        await asyncio.sleep(2 * world.source.waits.settle)  # long after each deletion was told
        assert world.in_force == ["api", "web"]

        await asyncio.to_thread(install, cluster, "authorizationpolicies")
        put(cluster, "web")
        await world.until_in_force("web")  # what did not come back, in its grace
        assert world.status.problems == ()
        assert world.value("meshca_policy_source_stale") == 0

    run(cluster, tmp_path, story)


def test_an_api_server_that_is_away_leaves_the_last_good_set(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "web")

    async def story(world: World) -> None:
        await asyncio.to_thread(cluster.stop)
        await world.until(lambda: len(world.status.problems) == 3, "all three kinds to fail")
        since = world.status.stale_since
        assert since is not None
        assert since <= world.loader.clock.now()
        assert world.in_force == ["web"]
        await asyncio.to_thread(cluster.start)
        put(cluster, "api")
        await world.until_in_force("api", "web")
        await world.until(lambda: world.status.problems == (), "to be current again")

    run(cluster, tmp_path, story)


def test_a_start_while_the_api_server_is_away_has_the_last_good_set(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "web")

    async def keep(world: World) -> None:
        put(cluster, "api")
        await world.until_in_force("api", "web")
        await world.until(
            lambda: len(read_kept(world.engine, "kubernetes") or ()) == 2, "both to be kept"
        )

    async def away(world: World) -> None:
        assert world.in_force == ["api", "web"]
        assert len(world.status.problems) == 3
        assert world.status.stale_since is None  # not since the start
        await asyncio.to_thread(cluster.start)
        delete(cluster, "api")
        await world.until_in_force("web")

    run(cluster, tmp_path, keep)
    cluster.stop()
    run(cluster, tmp_path, away)


def test_a_kind_that_vanished_during_a_restart_takes_nothing_along_at_once(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "web")
    put(cluster, "api")
    grace = 4.0

    async def kept(world: World, number: int) -> None:
        await world.until(
            lambda: len(read_kept(world.engine, "kubernetes") or ()) == number, f"{number} kept"
        )

    async def restarted(world: World) -> None:
        started = world.loader.clock.monotonic()
        await asyncio.sleep(4 * WAITS.settle)
        assert world.in_force == ["api", "web"]
        await kept(world, 2)
        await world.until_in_force("web")
        assert world.loader.clock.monotonic() - started > grace / 2
        await kept(world, 1)

    run(cluster, tmp_path, lambda world: kept(world, 2))
    remove(cluster, "authorizationpolicies")
    install(cluster, "authorizationpolicies")
    put(cluster, "web")
    run(cluster, tmp_path, restarted, waits=replace(WAITS, grace=grace))


def test_a_source_that_was_never_read_stops_the_start(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    async def story(_: World) -> None:
        raise AssertionError("it has started")

    cluster.stop()
    try:
        with pytest.raises(Unavailable, match=r"the policies of source kubernetes .* never read"):
            run(cluster, tmp_path, story)
    finally:
        cluster.start()


def test_an_object_that_does_not_load_keeps_its_namespace_as_it_was(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "web")

    async def story(world: World) -> None:
        put(cluster, "bad", spec={"action": "BLOCK"})
        await world.until(lambda: bool(world.loader.problems), "the problem")
        assert world.loader.problems[0].file == "kubernetes/shop/AuthorizationPolicy/bad"
        put(cluster, "good")
        await world.until(
            lambda: len(world.status.problems) == 0 and world.status.objects == 3, "x"
        )
        assert world.in_force == ["web"]
        put(cluster, "other", namespace="default")
        await world.until_in_force("other", "web")
        assert world.loader.problems[0].file == "kubernetes/shop/AuthorizationPolicy/bad"
        delete(cluster, "bad")
        await world.until_in_force("good", "other", "web")
        assert world.loader.problems == ()

    run(cluster, tmp_path, story)


def test_a_bad_object_does_not_stop_a_restart(cluster: KubeApiServer, tmp_path: Path) -> None:
    put(cluster, "web")

    async def keep(world: World) -> None:
        await world.until(lambda: read_kept(world.engine, "kubernetes") is not None, "kept")

    async def restarted(world: World) -> None:
        assert world.in_force == ["web"]
        assert world.loader.problems[0].file == "kubernetes/shop/AuthorizationPolicy/bad"

    run(cluster, tmp_path, keep)
    put(cluster, "bad", spec={"action": "BLOCK"})
    run(cluster, tmp_path, restarted)


def test_a_first_start_with_an_object_that_does_not_load_is_refused(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "bad", spec={"action": "BLOCK"})

    async def story(_: World) -> None:
        raise AssertionError("it has started")

    with pytest.raises(InvalidDocument, match="kubernetes/shop/AuthorizationPolicy/bad"):
        run(cluster, tmp_path, story)


def test_one_name_in_two_sources_names_both_and_keeps_what_was(
    cluster: KubeApiServer, tmp_path: Path
) -> None:
    put(cluster, "web")
    policies = tmp_path / "policies"
    policies.mkdir()

    async def story(world: World) -> None:
        (policies / "web.yaml").write_text(to_yaml(document("web")))
        await world.until(lambda: bool(world.loader.problems), "the problem")
        said = str(world.loader.problems[0])
        assert "kubernetes/shop/AuthorizationPolicy/web" in said
        assert str(policies / "web.yaml") in said
        policy = world.loader.state.current.policies[0]
        assert policy.source == "kubernetes/shop/AuthorizationPolicy/web"

    run(cluster, tmp_path, story, policies=policies)


def test_an_object_of_ten_mebibytes_is_refused_by_name(tmp_path: Path) -> None:
    spec = {"rules": [{}], "notes": "x" * (10 * 1024 * 1024)}
    item = {"metadata": {"name": "huge", "namespace": "shop"}, "spec": spec}

    def answer(path: str, _: dict[str, str]) -> Answer:
        if path == "/apis/security.istio.io/v1":
            resources = [{"name": plural, "verbs": ["create"]} for plural in PLURALS]
            return 200, orjson.dumps({"resources": resources})
        return page([item] if path.endswith("/authorizationpolicies") else [])

    async def story(kubeconfig: Path) -> None:
        async with running(kubeconfig, tmp_path):
            raise AssertionError("it has started")

    with (
        serving(answer, tmp_path) as kubeconfig,
        pytest.raises(InvalidDocument, match="AuthorizationPolicy/huge: larger than"),
    ):
        asyncio.run(story(kubeconfig))
