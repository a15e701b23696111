"""Several replicas on one database: each its own authorities, one bundle, one gate."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from audit.query import Query, find
from ca.at_rest import KeyFileAtRest
from ca.authority import Authorities
from meshca.errors import AuthorityUnavailable, Conflict
from rotation.membership import GONE_SECONDS
from rotation.operations import AuthorityOperations
from rotation.root_progress import root_progress
from rotation.roots import RootStage
from rotation.stages import Stage
from tests.fakes import FakeClock
from tests.rotation.root_steps import (
    WHO,
    acknowledge,
    add_root,
    drain,
    intermediates_of,
    issuers,
    stages,
    until,
)
from tests.rotation.two_replicas import LOOK, Two, hearing, play
from tests.sds.conftest import TRUST_DOMAIN, build_mesh
from tests.sds.proxy import Proxy


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    """Replicas `a` and `b`, of which nothing is loaded yet."""
    clock = FakeClock()
    mesh_a, mesh_b = build_mesh(tmp_path, clock), build_mesh(tmp_path, clock)
    a, b = intermediates_of(mesh_a, replica="a"), intermediates_of(mesh_b, replica="b")
    yield Two(clock, mesh_a, mesh_b, a, b)
    for each in (a, b):
        each.members.locks.close()


def test_each_signs_with_an_authority_of_its_own_and_one_leads(two: Two) -> None:
    async def story(two: Two) -> None:
        assert two.a.signing() != two.b.signing()
        assert (two.a.members.is_leader, two.b.members.is_leader) == (True, False)
        rows = {row.standing.replica: row.standing for row in two.a.standings.of()}
        assert {name: row.stage for name, row in rows.items()} == dict.fromkeys("ab", Stage.ACTIVE)
        assert two.mesh_a.authorities.bundle.roots == two.mesh_b.authorities.bundle.roots

    play(two, story)


def test_the_gate_waits_for_a_proxy_of_another_replica(two: Two) -> None:
    async def story(two: Two) -> None:
        async with Proxy(two.mesh_b.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
            add_root(two.mesh_a)
            await AuthorityOperations(two.a).replace_root(**WHO)
            await two.both_look()
            assert stages(two.a) == [RootStage.RETIRING, RootStage.ANNOUNCED]
            (missing,) = (await root_progress(two.a)).missing
            assert (missing.replica, missing.pod, missing.is_connected) == ("b", "web-1", True)
            assert missing.why == "has not acknowledged the bundle"
            proxy.refuse(await proxy.receive(), "no room for two")
            await until(lambda: any(p.nacks for p in two.mesh_b.ledger.connected()))
            await two.both_look()
            (missing,) = (await root_progress(two.a)).missing
            assert (missing.replica, missing.nack) == ("b", "no room for two")
            assert stages(two.a)[1] is RootStage.ANNOUNCED

    play(two, story)


def test_a_root_is_replaced_on_both_when_the_proxies_of_both_have_it(two: Two) -> None:
    async def story(two: Two) -> None:
        async with (
            Proxy(two.mesh_a.doors, token="shop/web/web-1") as one,
            Proxy(two.mesh_b.doors, token="shop/web/web-2") as other,
        ):
            for proxy in (one, other):
                proxy.subscribe("default", "ROOTCA")
                await acknowledge(proxy)
            add_root(two.mesh_a)
            await AuthorityOperations(two.b).replace_root(**WHO)
            await two.both_look(1)
            await acknowledge(one)
            await acknowledge(other)
            await two.both_look(6)
            assert stages(two.a) == [RootStage.RETIRING, RootStage.TRUSTED]
            new = two.a.trust.known[1].certificate
            for mesh in (two.mesh_a, two.mesh_b):
                active = mesh.authorities.active(two.clock.now())
                assert active.root == new
                await until(lambda m=mesh, name=active.authority_id: issuers(m) == {name})  # type: ignore[misc]
            await two.both_look()  # each tells the other
            phases = {p.name: p.remaining for p in (await root_progress(two.a)).phases}
            assert (phases["propagate"], phases["switch"], phases["reissue"]) == (0, 0, 0)
            two.clock.advance(timedelta(seconds=3700))
            await two.both_look()
            assert stages(two.a) == [RootStage.REMOVED, RootStage.TRUSTED]
            await two.both_look()
            assert two.mesh_b.authorities.bundle.roots == (new,)

    play(two, story)


def test_a_replica_that_has_not_reported_holds_the_gate(two: Two) -> None:
    async def story(two: Two) -> None:
        add_root(two.mesh_a)
        await AuthorityOperations(two.a).replace_root(**WHO)
        two.clock.advance(timedelta(seconds=31))
        await two.a.tick()  # b does not look
        assert stages(two.a)[1] is RootStage.ANNOUNCED
        (missing,) = (await root_progress(two.a)).missing
        assert missing.why == "replica b has not reported on it yet"
        await two.b.tick()
        await two.a.tick()
        assert stages(two.a)[1] is RootStage.TRUSTED

    play(two, story)


def test_an_acknowledgement_is_known_to_all_and_after_a_restart(two: Two) -> None:
    async def story(two: Two) -> None:
        async with Proxy(two.mesh_b.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
            async with Proxy(two.mesh_a.doors, token="shop/web/web-9") as late:
                late.subscribe("default", "ROOTCA")
                await drain(late)
                add_root(two.mesh_a)
                await AuthorityOperations(two.a).replace_root(**WHO)
                await two.b.tick()
                await acknowledge(proxy)
                await two.both_look()
        # Both are gone. web-1 has it: b saw that. web-9 has not.
        await two.both_look()
        missing = (await root_progress(two.a)).missing
        assert [(m.pod, m.is_connected) for m in missing] == [("web-9", False)]
        again = intermediates_of(two.mesh_b, replica="c")
        await again.load()
        assert [m.pod for m in await again.trust.missing(again.trust.known[1])][-1] == "web-9"
        again.members.locks.close()

    play(two, story)


def test_a_killed_replica_is_forgotten_and_its_authority_ended(two: Two) -> None:
    async def story(two: Two) -> None:
        async with Proxy(two.mesh_b.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
        lost = two.b.signing()
        two.b.members.locks.close()  # killed
        for _ in range(int(GONE_SECONDS // LOOK)):
            await two.a.tick()
            assert two.a.standings.get(lost).standing.stage is Stage.ACTIVE
            two.clock.advance(timedelta(seconds=LOOK))
        await two.a.tick()
        assert two.a.standings.get(lost).standing.stage is Stage.RETIRING
        assert await two.a.members.names() == {"a"}
        two.clock.advance(timedelta(seconds=3700))
        await two.a.tick()
        assert two.a.standings.get(lost).standing.stage is Stage.RETIRED
        (entry, *_) = find(two.mesh_a.writer.engine, Query(kind="authority_change"))
        assert entry.body["details"]["authority"] == lost

    play(two, story)


def test_a_replica_that_comes_back_in_time_goes_on(two: Two) -> None:
    async def story(two: Two) -> None:
        signs = two.b.signing()

        async def look(seconds: float) -> None:
            for _ in range(int(seconds // LOOK)):
                two.clock.advance(timedelta(seconds=LOOK))
                await two.a.tick()

        two.b.members.locks.close()
        await look(GONE_SECONDS - LOOK)
        await two.b.tick()  # it has found the database again
        await look(GONE_SECONDS - LOOK)
        two.b.members.locks.close()
        await look(GONE_SECONDS - LOOK)
        two.clock.advance(timedelta(minutes=10))  # the leader itself was away
        await two.a.tick()
        await look(GONE_SECONDS - LOOK)
        assert two.a.standings.get(signs).standing.stage is Stage.ACTIVE
        assert two.b.signing() == signs

    play(two, story)


def test_another_one_leads_when_the_leader_is_gone(two: Two) -> None:
    async def story(two: Two) -> None:
        two.a.members.locks.close()
        await two.b.tick()
        assert two.b.members.is_leader

    play(two, story)


def test_a_kept_key_is_left_to_its_replica_unless_its_root_is_to_be_replaced(
    tmp_path: Path, two: Two
) -> None:
    (tmp_path / "kek").write_text(base64.b64encode(bytes(range(32))).decode())
    (tmp_path / "kek").chmod(0o600)
    two.b.custody.at_rest = KeyFileAtRest(tmp_path / "kek")

    async def story(two: Two) -> None:
        kept = two.b.signing()
        await two.b.members.leave()
        await two.a.tick()
        assert two.a.standings.get(kept).standing.stage is Stage.ACTIVE
        back = intermediates_of(
            two.mesh_b,
            replica="b",
            authorities=Authorities(TRUST_DOMAIN),
            at_rest=two.b.custody.at_rest,
        )
        await back.load()
        assert back.signing() == kept
        await back.members.leave()
        add_root(two.mesh_a)
        await AuthorityOperations(two.a).replace_root(**WHO)
        await two.a.tick()
        assert two.a.standings.get(kept).standing.stage is Stage.RETIRED

    play(two, story)


def test_a_taint_stops_another_replica_whatever_it_waits_for(two: Two) -> None:
    async def story(two: Two) -> None:
        stolen = two.b.signing()
        async with two.b.lock, hearing(two.b):  # b's loop waits for a slow upstream
            await AuthorityOperations(two.a).taint(stolen, **WHO)
            await until(lambda: two.b.signing() == "")
            with pytest.raises(AuthorityUnavailable):
                two.mesh_b.authorities.active(two.clock.now())

    play(two, story)


def test_the_leaves_under_a_tainted_authority_are_replaced_by_their_own_replica(two: Two) -> None:
    async def story(two: Two) -> None:
        async with Proxy(two.mesh_b.doors) as proxy, hearing(two.b):
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
            stolen = two.b.signing()
            await AuthorityOperations(two.a).taint(stolen, **WHO)
            await until(lambda: issuers(two.mesh_b) not in (set(), {stolen}))
            assert two.b.signing() not in ("", stolen)
            assert two.a.signing()

    play(two, story)


def test_a_replica_that_was_away_while_its_root_was_removed_signs_nothing(two: Two) -> None:
    async def story(two: Two) -> None:
        old = two.b.signing()
        two.b.members.locks.close()  # it is suspended
        add_root(two.mesh_a)
        await AuthorityOperations(two.a).replace_root(**WHO)
        for _ in range(40):
            two.clock.advance(timedelta(seconds=LOOK))
            await two.a.tick()
        assert stages(two.a) == [RootStage.REMOVED, RootStage.TRUSTED]
        await two.b.tick()
        assert two.b.signing() not in ("", old)
        active = two.mesh_b.authorities.active(two.clock.now())
        assert active.root == two.a.trust.known[1].certificate
        assert await two.a.members.names() == {"a", "b"}

    play(two, story)


def test_no_waiver_stands_for_a_replica(two: Two) -> None:
    async def story(two: Two) -> None:
        add_root(two.mesh_a)
        operations = AuthorityOperations(two.a)
        root = await operations.replace_root(**WHO)
        with pytest.raises(Conflict, match="never a replica"):
            await operations.waive(root, "", "", **WHO)
        assert stages(two.a)[1] is RootStage.ANNOUNCED

    play(two, story)
