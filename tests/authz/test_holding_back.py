"""A namespace of which an object does not load stays as it was, and the others move on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from authz.policy import PolicySet
from authz.sources import PolicyLoader, PolicyOptions, PreparedChange, SourceChange
from authz.state import PolicyState
from meshca.errors import InvalidDocument
from meshca.metrics import Metrics
from tests.authz.builders import document, names, rule, to_yaml
from tests.authz.objects import HEADER, Objects, denial, tokens
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

BROKEN = document("bad", action="BLOCK", rules=[{}])


@dataclass
class Cluster:
    """A loader of a cluster, another one and one directory, and what it told."""

    objects: Objects
    other: Objects
    loader: PolicyLoader
    directory: Path
    changes: list[SourceChange] = field(default_factory=list)

    @property
    def in_force(self) -> list[str]:
        """Return the names of the policies in force."""
        return sorted(names(self.loader.state.current.policies))

    @property
    def held(self) -> list[str]:
        """Return the namespaces that are told to be held back."""
        problems = self.loader.problems
        return [each.file for each in problems if "stays as it was" in each.message]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    directory = tmp_path / "policies"
    directory.mkdir()
    empty = PolicySet.empty(trust_domain="example.org", root_namespace="meshca")
    with sqlite_engine(tmp_path) as engine:
        objects, other = Objects(), Objects("kubernetes-2")
        loader = PolicyLoader(
            state=PolicyState(empty),
            options=PolicyOptions("example.org", "meshca", "deny", (directory,)),
            engine=engine,
            clock=FakeClock(),
            metrics=Metrics(),
            live=(objects, other),
        )
        made = Cluster(objects, other, loader, directory)
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
            "kubernetes/shop/AuthorizationPolicy/bad",
            "kubernetes/shop",
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


async def check_that_only_shop_is_held(cluster: Cluster) -> None:
    """Check that denials of the others come into force, and what came with the problem not."""
    cluster.objects.put(document("came-with-it", rules=[{}]))
    assert not await cluster.loader.reload()
    cluster.objects.put(denial("meshca"), denial("bank"))
    with capture_logs() as logs:
        assert not await cluster.loader.reload()
    assert [entry["event"] for entry in logs] == ["policy_in_force"], "told once"
    assert {"deny-of-meshca", "deny-of-bank", "vault", "web"} <= set(cluster.in_force)
    assert "came-with-it" not in cluster.in_force
    assert cluster.held == ["kubernetes/shop"]


def test_a_tenant_that_spoils_a_token_header_of_root_is_held_alone(cluster: Cluster) -> None:
    async def story() -> None:
        cluster.objects.put(tokens("meshca", **HEADER))
        assert await cluster.loader.reload()
        cluster.objects.put(tokens("shop"))
        await check_that_only_shop_is_held(cluster)
        requests = cluster.loader.state.current.request_authentications
        assert [each.namespace for each in requests] == ["meshca"]
        cluster.objects.remove(tokens("shop"))
        assert await cluster.loader.reload()
        assert "came-with-it" in cluster.in_force
        assert cluster.loader.problems == ()

    play(cluster, story)


def test_a_tenant_that_comes_together_with_root_is_held_alone(cluster: Cluster) -> None:
    async def story() -> None:
        cluster.objects.put(tokens("meshca", **HEADER), tokens("shop"))
        await check_that_only_shop_is_held(cluster)

    play(cluster, story)


def test_a_tenant_that_spoils_a_token_header_of_a_file_is_held_alone(cluster: Cluster) -> None:
    async def story() -> None:
        (cluster.directory / "root.yaml").write_text(to_yaml(tokens("meshca", **HEADER)))
        cluster.objects.put(tokens("shop"))
        await check_that_only_shop_is_held(cluster)

    play(cluster, story)


def test_a_tenant_that_takes_a_name_of_the_applied_set_is_held_alone(cluster: Cluster) -> None:
    async def story() -> None:
        async with writer_of(cluster.loader.engine) as writer:

            async def record(prepared: PreparedChange) -> None:
                await writer.submit(prepared.applied)

            limits = document("limits", rules=[{}])
            await cluster.loader.apply(to_yaml(limits), author="a", reason="r", record=record)
            cluster.objects.put(limits)
            await check_that_only_shop_is_held(cluster)
            current = cluster.loader.state.current.policies
            (policy,) = (each for each in current if each.name == "limits")
            assert policy.source == "applied set 1"
            assert any("already defined" in str(each) for each in cluster.loader.problems)

    play(cluster, story)


def test_root_is_held_when_it_is_root_that_is_broken_or_new(cluster: Cluster) -> None:
    async def story() -> None:
        cluster.objects.put(tokens("shop"))
        assert await cluster.loader.reload()
        for wrong in (tokens("meshca", **HEADER), document("bad", "meshca", action="BLOCK")):
            cluster.objects.put(wrong, denial("meshca"), denial("bank"))
            assert not await cluster.loader.reload()
            assert cluster.in_force == ["deny-of-bank", "vault", "web"]
            assert cluster.held == ["kubernetes/meshca"]
            cluster.objects.remove(wrong)

    play(cluster, story)


def test_of_two_tenants_the_one_that_has_changed_is_held(cluster: Cluster) -> None:
    async def story() -> None:
        cluster.other.put(document("web", rules=[{}]), document("silver", rules=[{}]))
        cluster.objects.put(document("gold", rules=[{}]))
        assert not await cluster.loader.reload()
        assert cluster.held == ["kubernetes-2/shop"]
        assert cluster.in_force == ["gold", "vault", "web"]

    play(cluster, story)


def test_of_two_tenants_that_have_both_changed_both_are_held(cluster: Cluster) -> None:
    async def story() -> None:
        for each in (cluster.objects, cluster.other):
            each.put(document("new", rules=[{}]))
        cluster.objects.put(denial("bank"))
        assert not await cluster.loader.reload()
        assert cluster.held == ["kubernetes-2/shop", "kubernetes/shop"]
        assert cluster.in_force == ["deny-of-bank", "vault", "web"]

    play(cluster, story)


def test_more_is_held_until_the_rest_loads(cluster: Cluster) -> None:
    """Held as it was, `shop` has its tokens again, which what is new of root cannot stand."""

    async def story() -> None:
        cluster.objects.put(tokens("shop"))
        assert await cluster.loader.reload()
        cluster.objects.remove(tokens("shop"))
        cluster.objects.put(BROKEN, tokens("meshca", **HEADER), denial("meshca"), denial("bank"))
        assert not await cluster.loader.reload()
        assert cluster.held == ["kubernetes/meshca", "kubernetes/shop"]
        assert cluster.in_force == ["deny-of-bank", "vault", "web"]
        assert any("one issuer only" in str(each) for each in cluster.loader.problems)

    play(cluster, story)
