"""A namespace of which an object does not load stays as it was, and the others move on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from authz.directory import Texts
from authz.policy import PolicySet
from authz.sources import PolicyLoader, PolicyOptions, SourceChange
from authz.state import PolicyState
from authz.status import SourceStatus
from meshca.errors import InvalidDocument
from meshca.metrics import Metrics
from tests.authz.builders import document, names, rule, to_yaml
from tests.fakes import FakeClock
from tests.stores import sqlite_engine

BROKEN = document("bad", action="BLOCK", rules=[{}])


@dataclass
class Objects:
    """A live source that holds what it is told to."""

    held: dict[str, str] = field(default_factory=dict)
    last_good: Texts | None = None

    def put(self, *documents: dict[str, Any]) -> None:
        """Create or replace objects."""
        for each in documents:
            self.held[self._name(each)] = to_yaml(each)

    def remove(self, each: dict[str, Any]) -> None:
        """Delete an object."""
        del self.held[self._name(each)]

    def start(self) -> None:
        """It is there already."""

    def texts(self) -> Texts:
        """Return what it holds, sorted."""
        return tuple(sorted(self.held.items()))

    def accepted(self, texts: Texts) -> None:
        """Remember what is in force."""
        self.last_good = texts

    def status(self) -> SourceStatus:
        """Return that all is well."""
        return SourceStatus("kubernetes", "kubernetes", len(self.held))

    async def run(self, changed: Callable[[], None]) -> None:
        """Change by the test's word only."""

    @staticmethod
    def _name(each: dict[str, Any]) -> str:
        metadata = each["metadata"]
        return f"kubernetes/{metadata['namespace']}/{each['kind']}/{metadata['name']}"


@dataclass
class Cluster:
    """A loader of one cluster and one directory, and what it told."""

    objects: Objects
    loader: PolicyLoader
    directory: Path
    changes: list[SourceChange] = field(default_factory=list)

    @property
    def in_force(self) -> list[str]:
        """Return the names of the policies in force."""
        return sorted(names(self.loader.state.current.policies))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    directory = tmp_path / "policies"
    directory.mkdir()
    empty = PolicySet.empty(trust_domain="example.org", root_namespace="meshca")
    with sqlite_engine(tmp_path) as engine:
        objects = Objects()
        loader = PolicyLoader(
            state=PolicyState(empty),
            options=PolicyOptions("example.org", "meshca", "deny", (directory,)),
            engine=engine,
            clock=FakeClock(),
            metrics=Metrics(),
            live=(objects,),
        )
        made = Cluster(objects, loader, directory)
        loader.on_source_change = made.changes.append
        yield made


def play(cluster: Cluster, story: Callable[[], Awaitable[None]]) -> None:
    """Run `story` with one policy of `shop` and one of `bank` in force."""

    async def whole() -> None:
        cluster.objects.put(document("web", rules=[{}]), document("vault", "bank", rules=[{}]))
        cluster.loader.start()
        await story()

    asyncio.run(whole())


def test_a_bad_object_holds_up_its_own_namespace_only(cluster: Cluster) -> None:
    async def story() -> None:
        cluster.objects.put(BROKEN, document("new", rules=[{}]), document("gold", "bank"))
        assert not await cluster.loader.reload()
        assert cluster.in_force == ["gold", "vault", "web"]
        assert [p.file for p in cluster.loader.problems] == [
            "kubernetes/shop/AuthorizationPolicy/bad"
        ]
        assert [change.origin for change in cluster.changes] == ["kubernetes"]

        cluster.objects.put(document("silver", "bank"))
        with capture_logs() as logs:
            assert not await cluster.loader.reload()
        assert [entry["event"] for entry in logs] == ["policy_in_force"], "told once"
        assert cluster.in_force == ["gold", "silver", "vault", "web"]

        cluster.objects.remove(BROKEN)
        assert await cluster.loader.reload()
        assert cluster.in_force == ["gold", "new", "silver", "vault", "web"]
        assert cluster.loader.problems == ()

    play(cluster, story)


def test_what_a_held_namespace_denies_stays_denied(cluster: Cluster) -> None:
    denies = document("deny", action="DENY", rules=[rule({"namespaces": ["bank"]})])

    async def story() -> None:
        cluster.objects.put(denies)
        assert await cluster.loader.reload()
        cluster.objects.remove(denies)
        cluster.objects.put(document("web", rules=[{}, {}]), BROKEN)
        before = cluster.loader.state.current
        assert not await cluster.loader.reload()
        assert cluster.loader.state.current.version == before.version
        assert cluster.objects.last_good is not None
        assert [name for name, _ in cluster.objects.last_good if "deny" in name]

    play(cluster, story)


def test_a_restart_moves_on_with_what_loads(cluster: Cluster) -> None:
    async def story() -> None:
        cluster.objects.put(BROKEN, document("gold", "bank"))
        cluster.loader.start()
        assert cluster.in_force == ["gold", "vault", "web"]
        assert cluster.loader.problems != ()
        assert await cluster.loader.reload() is False

    play(cluster, story)


def test_a_first_start_with_a_bad_object_is_refused(cluster: Cluster) -> None:
    cluster.objects.put(BROKEN, document("vault", "bank"))
    with pytest.raises(InvalidDocument, match="shop/AuthorizationPolicy/bad"):
        cluster.loader.start()


@pytest.mark.parametrize("text", [to_yaml(BROKEN), to_yaml(document("vault", "bank"))])
def test_a_problem_of_something_else_too_holds_up_all(cluster: Cluster, text: str) -> None:
    async def story() -> None:
        (cluster.directory / "policy.yaml").write_text(text)
        cluster.objects.put(BROKEN, document("gold", "bank"))
        assert not await cluster.loader.reload()
        assert cluster.in_force == ["vault", "web"]

    play(cluster, story)


def test_a_token_header_that_another_namespace_spoils_holds_up_the_two(cluster: Cluster) -> None:
    def tokens(namespace: str, issuer: str, **more: Any) -> dict[str, Any]:
        found = document("tokens", namespace)
        found["kind"] = "RequestAuthentication"
        keys = {"jwksUri": f"{issuer}/keys"}
        return {**found, "spec": {"jwtRules": [{"issuer": issuer, **keys, **more}]}}

    async def story() -> None:
        header = {"outputPayloadToHeader": "x-payload"}
        cluster.objects.put(tokens("meshca", "https://a.test", **header))
        assert await cluster.loader.reload()
        cluster.objects.put(tokens("shop", "https://b.test"), document("gold", "bank"))
        assert not await cluster.loader.reload()
        assert cluster.in_force == ["gold", "vault", "web"]
        requests = cluster.loader.state.current.request_authentications
        assert [each.namespace for each in requests] == ["meshca"]

    play(cluster, story)
