"""When a revocation is in force: who has acknowledged it, who lags, refuses, leaves, comes back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from envoy.service.discovery.v3.discovery_pb2 import DeltaDiscoveryRequest

from audit.query import Query, find
from ca.revocation.effects import Effect, Effects
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.store import Decision, Revocation, Revoked
from ca.revocation.view import Crl
from sds.effects import EffectTracker
from sds.resources import EXTENSION_TYPE, SECRET_TYPE
from tests.sds.conftest import Mesh, running
from tests.sds.proxy import Proxy

WEB = "spiffe://example.org/ns/shop/sa/web"
DEADLINE_SECONDS = 10.0


@dataclass
class World:
    """A mesh in which certificates are revoked, and what is known of when that took effect."""

    mesh: Mesh
    revision: int = 0
    _watch: "asyncio.Task[None] | None" = None

    async def watch(self) -> None:
        """Run the tracker of effects."""
        self._watch = asyncio.ensure_future(self.mesh.effects.run())
        await _until(lambda: self.mesh.effects.is_watching)

    async def stop(self) -> None:
        """Let the tracker die, with all that it knows."""
        assert self._watch is not None
        self._watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watch

    async def revoke(self, authority: str = "a") -> int:
        """Revoke a certificate and push the filter; the list is not signed yet."""
        self.revision += 1
        now, name = self.mesh.clock.now(), f"d{self.revision}"
        end = now + timedelta(hours=1)
        digest = f"{self.revision:064x}"
        revoked = Revocation(
            f"{self.revision:x}", name, authority, WEB, digest, end, Reason.keyCompromise, now
        )
        decision = Decision(name, now, "uid:0", "test", Reason.keyCompromise, Selector(serial="1"))
        await self.mesh.writer.submit(decision, Revoked([revoked]))
        digests = {digest, *self.mesh.view.revoked.get(WEB, ())}
        self.show(revision=self.revision, revoked={WEB: frozenset(digests)})
        return self.revision

    def sign(self, authority: str = "a") -> None:
        """Push the list that says it."""
        others = [crl for crl in self.mesh.view.lists if crl.authority_id != authority]
        now = self.mesh.clock.now()
        content = f"{authority}{self.revision}".encode()
        end = now + timedelta(days=30)
        crl = Crl(authority, self.revision + 1, self.revision, now, end, now, content)
        self.show(lists=(crl, *others))

    def show(self, **changed: Any) -> None:
        """Push a view, as the service does."""
        self.mesh.view = replace(self.mesh.view, **changed)
        self.mesh.effects.pushed()
        self.mesh.ledger.wake_all()

    def effect(self, revision: int) -> Effect | None:
        """Return what is on record of `revision`."""
        found = self.effects.of(revision)
        return found[0] if found else None

    @property
    def effects(self) -> Effects:
        """Return the reads of the table."""
        return self.mesh.effects.effects

    async def until(self, revision: int, holds: Callable[[Effect], bool]) -> Effect:
        """Wait until what is on record of `revision` is so; time passes meanwhile."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                effect = self.effect(revision)
                if effect is not None and holds(effect):
                    return effect
                self.mesh.clock.advance(timedelta(milliseconds=100))
                await asyncio.sleep(0.02)

    async def complete(self, revision: int) -> Effect:
        """Wait until `revision` is in force."""
        return await self.until(revision, lambda effect: effect.is_complete)

    def audited(self, what: str) -> list[dict[str, Any]]:
        """Return the details of the entries about revocations taking effect."""
        entries = find(self.effects.engine, Query(kind="revocation"))
        details = [entry.body["details"] for entry in entries]
        return [each for each in details if each["what"] == what]


@asynccontextmanager
async def watching(mesh: Mesh) -> AsyncIterator[World]:
    """Run the mesh and its tracker of effects, with a first list in force."""
    async with running(mesh):
        world = World(mesh)
        world.sign()
        await world.watch()
        mesh.clock.advance(timedelta(seconds=20))  # whoever was to come back has
        try:
            yield world
        finally:
            await world.stop()


class Follower(Proxy):
    """A proxy that follows the bundle and the filter, and answers only as it is told."""

    async def begin(self) -> None:
        """Subscribe, and acknowledge what comes first."""
        self.subscribe("ROOTCA")
        self.subscribe("revoked", type_url=EXTENSION_TYPE)
        for _ in range(2):
            self.acknowledge(await self.receive())

    async def take(self, type_url: str) -> None:
        """Acknowledge the next push, which is of `type_url`."""
        response = await self.receive()
        assert response.type_url == type_url
        self.acknowledge(response)


def follower(mesh: Mesh, number: int = 1) -> Follower:
    return Follower(mesh.doors, token=f"shop/web/web-{number}", service="ads")


def test_is_in_force_once_list_and_filter_are_acknowledged_by_all(mesh: Mesh) -> None:
    async def story() -> None:
        async with watching(mesh) as world, follower(mesh, 1) as one, follower(mesh, 2) as two:
            await one.begin()
            await two.begin()
            revision = await world.revoke()
            for proxy in (one, two):
                await proxy.take(EXTENSION_TYPE)
            mesh.clock.advance(timedelta(milliseconds=40))
            world.sign()
            signed_at = mesh.clock.now()
            await one.take(SECRET_TYPE)
            held_up = await world.until(revision, lambda e: e.acknowledged == 1)
            mesh.clock.advance(timedelta(milliseconds=60))
            await two.take(SECRET_TYPE)
            effect = await world.complete(revision)

            assert [b.pod for b in held_up.behind] == ["web-2"]
            assert held_up.behind[0].lacks == "list"
            assert (effect.proxies, effect.acknowledged, effect.left) == (2, 2, 0)
            assert effect.behind == ()
            assert [(x.authority_id, x.number, x.signed_at) for x in effect.lists] == [
                ("a", revision + 1, signed_at)
            ]
            assert effect.requests_at is not None
            assert effect.handshakes_at is not None
            assert effect.pushed_at <= effect.requests_at < effect.handshakes_at == effect.last_at
            (entry,) = world.audited("in_force")
            assert (entry["decisions"], entry["proxies"]) == (["d1"], 2)
            assert entry["milliseconds"] >= 100
            assert _observed(mesh) == 1
            assert world.audited("lagging") == []

    asyncio.run(story())


def test_an_acknowledgement_of_an_older_push_proves_nothing(mesh: Mesh) -> None:
    async def story() -> None:
        async with watching(mesh) as world, follower(mesh) as proxy:
            await proxy.begin()
            first = await world.revoke()
            old = await proxy.receive()
            second = await world.revoke()
            world.sign()
            proxy.acknowledge(old)
            effect = await world.until(second, lambda e: e.behind_count == 1)
            assert effect.behind[0].lacks == "list and filter"

            for _ in range(2):
                proxy.acknowledge(await proxy.receive())
            assert (await world.complete(first)).acknowledged == 1
            assert (await world.complete(second)).acknowledged == 1

    asyncio.run(story())


def test_a_proxy_that_refuses_or_lags_is_named_with_what_it_said(mesh: Mesh) -> None:
    async def story() -> None:
        async with watching(mesh) as world, follower(mesh) as proxy:
            await proxy.begin()
            revision = await world.revoke()
            pushed_at = mesh.clock.now()
            await proxy.take(EXTENSION_TYPE)
            world.sign()
            proxy.refuse(await proxy.receive(), "Failed to load CRL")
            mesh.clock.advance(timedelta(seconds=31))
            effect = await world.until(revision, lambda e: bool(e.behind and e.behind[0].nack))
            await _until(lambda: _behind(mesh) == 1)

            (behind,) = effect.behind
            assert (behind.spiffe_id, behind.pod, behind.lacks) == (WEB, "web-1", "list")
            assert behind.nack == "Failed to load CRL"
            assert behind.since == effect.pushed_at == pushed_at
            await _until(lambda: len(world.audited("lagging")) == 1)
            assert world.audited("in_force") == []

            await world.revoke()
            world.sign()
            for _ in range(2):
                proxy.acknowledge(await proxy.receive())
            await world.complete(revision)
            assert len(world.audited("lagging")) == 1
            await _until(lambda: _behind(mesh) == 0)

    asyncio.run(story())


def test_who_leaves_is_not_waited_for_and_counts_again_when_it_is_back_with_an_old_version(
    mesh: Mesh,
) -> None:
    async def story() -> None:
        async with watching(mesh) as world, follower(mesh, 2) as stays:
            await stays.begin()
            async with follower(mesh, 1) as leaves:
                await leaves.begin()
                revision = await world.revoke()
                world.sign()
                old = (await leaves.receive()).resources[0].version
            await world.until(revision, lambda e: (e.left, e.behind_count) == (1, 1))
            async with follower(mesh, 1) as back:
                back.send(
                    DeltaDiscoveryRequest(
                        type_url=EXTENSION_TYPE,
                        resource_names_subscribe=["revoked"],
                        initial_resource_versions={"revoked": "0" * len(old)},
                    )
                )
                response = await back.receive()
                effect = await world.until(revision, lambda e: (e.left, e.behind_count) == (0, 2))
                assert {b.pod: b.lacks for b in effect.behind}["web-1"] == "filter"
                back.acknowledge(response)
                await world.until(revision, lambda e: e.acknowledged == 1)
            for _ in range(2):
                stays.acknowledge(await stays.receive())
            effect = await world.complete(revision)
            assert (effect.proxies, effect.acknowledged, effect.left) == (2, 2, 0)
            assert effect.without_list == 1

    asyncio.run(story())


def test_a_list_that_is_never_signed_is_said_and_not_waited_for(mesh: Mesh) -> None:
    async def story() -> None:
        async with watching(mesh) as world, follower(mesh) as proxy:
            await proxy.begin()
            revision = await world.revoke()
            await proxy.take(EXTENSION_TYPE)
            mesh.clock.advance(timedelta(seconds=31))
            effect = await world.complete(revision)

            assert (effect.acknowledged, effect.unsigned, effect.lists) == (1, ("a",), ())

    asyncio.run(story())


def test_an_authority_that_is_left_out_of_contexts_needs_no_list(mesh: Mesh) -> None:
    async def story() -> None:
        async with watching(mesh) as world, follower(mesh) as proxy:
            await proxy.begin()
            revision = await world.revoke("gone")
            await proxy.take(EXTENSION_TYPE)
            effect = await world.complete(revision)

            assert (effect.acknowledged, effect.unsigned) == (1, ())

    asyncio.run(story())


def test_what_was_not_complete_at_the_end_of_a_process_is_watched_by_the_next(mesh: Mesh) -> None:
    async def story() -> None:
        async with watching(mesh) as world:
            async with follower(mesh) as proxy:
                await proxy.begin()
                await world.revoke()
                await world.complete(await _signed_and_taken(world, proxy))
                unfinished = await world.revoke()
                await world.until(unfinished, lambda e: e.behind_count == 1)
                await world.stop()
            decided = await world.revoke()  # and the process dies before anybody hears of it
            world.sign()

            mesh.effects = _another(mesh.effects)
            mesh.doors = replace(mesh.doors, heard=mesh.effects.heard)
            await world.watch()
            await world.until(decided, lambda e: not e.is_complete and e.proxies == 0)
            async with follower(mesh) as back:
                await back.begin()
                effect = await world.complete(decided)

            assert effect.acknowledged == 1
            assert world.effects.of(unfinished) == [effect]
            newest = world.audited("in_force")[0]
            assert newest["decisions"] == [f"d{n}" for n in range(unfinished, decided + 1)]

    asyncio.run(story())


def test_while_the_database_is_away_nothing_is_lost(mesh: Mesh) -> None:
    async def story() -> None:
        async with watching(mesh) as world, follower(mesh) as proxy:
            await proxy.begin()
            revision = await world.revoke()
            engine = world.effects.engine
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE revocation_effects RENAME TO away")
            await proxy.take(EXTENSION_TYPE)
            world.sign()
            await proxy.take(SECRET_TYPE)
            for _ in range(20):
                mesh.clock.advance(timedelta(milliseconds=200))
                await asyncio.sleep(0.02)
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE away RENAME TO revocation_effects")
            assert (await world.complete(revision)).acknowledged == 1

    asyncio.run(story())


async def _signed_and_taken(world: World, proxy: Follower) -> int:
    world.sign()
    for _ in range(2):
        proxy.acknowledge(await proxy.receive())
    return world.revision


def _another(tracker: EffectTracker) -> EffectTracker:
    """Return what a new process has: nothing but the database and who it is."""
    return EffectTracker(
        view=tracker.view,
        ledger=tracker.ledger,
        carried=tracker.carried,
        effects=tracker.effects,
        writer=tracker.writer,
        clock=tracker.clock,
        metrics=tracker.metrics,
        trust_domain=tracker.trust_domain,
        replica=tracker.replica,
    )


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not holds():
            await asyncio.sleep(0.02)


def _observed(mesh: Mesh) -> float:
    name = "meshca_revocation_time_to_effect_seconds_count"
    return mesh.metrics.registry.get_sample_value(name) or 0.0


def _behind(mesh: Mesh) -> float:
    return mesh.metrics.registry.get_sample_value("meshca_revocation_proxies_behind") or 0.0
