"""A root is announced, propagated, switched to, and the old one removed: measured at each gate."""

from datetime import timedelta
from pathlib import Path

import pytest

from ca.authority import Authorities
from meshca.errors import Conflict, NotFound
from rotation.intermediates import Intermediates
from rotation.operations import AuthorityOperations
from rotation.root_progress import root_progress
from rotation.roots import RootStage
from rotation.stages import Stage
from tests.admin.world import intent
from tests.fakes import FakeClock
from tests.rotation.authorities import (
    Switch,
    of_mesh,
)
from tests.rotation.root_scene import play
from tests.rotation.root_steps import (
    WHO,
    acknowledge,
    add_root,
    drain,
    intermediates_of,
    issuers,
    later,
    stages,
    until,
)
from tests.sds.conftest import TRUST_DOMAIN, Mesh, build_mesh
from tests.sds.proxy import Proxy


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """A mesh whose authorities nobody has loaded yet."""
    return build_mesh(tmp_path, FakeClock())


def test_the_first_root_is_trusted_at_once(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        assert stages(intermediates) == [RootStage.TRUSTED]

    play(mesh, story)


def test_a_new_root_is_in_the_bundle_before_anything_is_signed_under_it(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await drain(proxy)
            add_root(mesh)
            await later(mesh, intermediates)
            assert stages(intermediates) == [RootStage.TRUSTED, RootStage.ANNOUNCED]
            assert len(mesh.authorities.bundle.roots) == 2
            await AuthorityOperations(intermediates).replace_root(**WHO)
            await later(mesh, intermediates)
            active = mesh.authorities.active(mesh.clock.now())
            assert active.root == intermediates.trust.known[0].certificate
            progress = await root_progress(intermediates)
            assert [m.why for m in progress.missing] == ["has not acknowledged the bundle"]

    play(mesh, story)


def test_a_root_is_replaced_when_everybody_has_it_and_removed_when_nothing_chains_to_it(
    mesh: Mesh,
) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
            add_root(mesh)
            await AuthorityOperations(intermediates).replace_root(**WHO)
            await acknowledge(proxy)
            await later(mesh, intermediates)
            assert stages(intermediates) == [RootStage.RETIRING, RootStage.TRUSTED]
            active = mesh.authorities.active(mesh.clock.now())
            assert active.root == intermediates.trust.known[1].certificate
            await until(lambda: issuers(mesh) == {active.authority_id})
            assert len(mesh.authorities.bundle.roots) == 2
            await later(mesh, intermediates, 3700)  # every leaf under the old root has ended
            await later(mesh, intermediates)
            assert stages(intermediates) == [RootStage.REMOVED, RootStage.TRUSTED]
            assert list(mesh.authorities.bundle.roots) == [active.root]

    play(mesh, story)


def test_a_root_stays_while_a_certificate_under_it_lives_whatever_became_of_its_authority(
    mesh: Mesh,
) -> None:
    async def story(intermediates: Intermediates) -> None:
        old = intermediates.signing()
        add_root(mesh)
        await AuthorityOperations(intermediates).replace_root(**WHO)
        assert intermediates.standings.get(old).standing.stage is Stage.RETIRED
        late = intent("ab12", mesh.clock, authority_id=old)  # it was prepared before the switch
        await mesh.writer.submit(late)
        await later(mesh, intermediates)
        assert stages(intermediates)[0] is RootStage.RETIRING
        await later(mesh, intermediates, 3700)
        assert stages(intermediates)[0] is RootStage.REMOVED

    play(mesh, story)


def test_an_absent_workload_holds_the_gate_until_it_is_waived(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
        mesh.clock.advance(timedelta(minutes=2))  # past the backdating of the certificate
        add_root(mesh)
        operations = AuthorityOperations(intermediates)
        successor = await operations.replace_root(**WHO)
        progress = await root_progress(intermediates)
        assert [(m.spiffe_id, m.pod, m.is_connected) for m in progress.missing] == [
            ("spiffe://example.org/ns/shop/sa/web", "web-1", False)
        ]
        with pytest.raises(Conflict):
            await operations.waive(successor, "spiffe://example.org/x", "", **WHO)
        await operations.waive(successor, "spiffe://example.org/ns/shop/sa/web", "web-1", **WHO)
        assert stages(intermediates) == [RootStage.RETIRING, RootStage.TRUSTED]

    play(mesh, story)


def test_an_absent_workload_holds_the_gate_no_longer_than_its_certificate(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
        mesh.clock.advance(timedelta(minutes=2))
        add_root(mesh)
        await AuthorityOperations(intermediates).replace_root(**WHO)
        assert stages(intermediates)[1] is RootStage.ANNOUNCED
        await later(mesh, intermediates, 3700)
        assert stages(intermediates)[1] is RootStage.TRUSTED

    play(mesh, story)


def test_a_proxy_that_refuses_the_bundle_is_named_with_its_text(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
            add_root(mesh)
            await AuthorityOperations(intermediates).replace_root(**WHO)
            proxy.refuse(await proxy.receive(), "no room for two")
            await until(lambda: any(p.nacks for p in mesh.ledger.connected()))
            await later(mesh, intermediates)
            (missing,) = (await root_progress(intermediates)).missing
            assert (missing.why, missing.nack) == ("refused the bundle", "no room for two")
            assert stages(intermediates)[1] is RootStage.ANNOUNCED

    play(mesh, story)


def test_the_root_that_stays_can_be_named(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        operations = AuthorityOperations(intermediates)
        first = intermediates.trust.known[0].root_sha256
        add_root(mesh)
        await later(mesh, intermediates)  # nobody is connected: it is trusted at once
        assert stages(intermediates) == [RootStage.TRUSTED, RootStage.TRUSTED]
        assert await operations.replace_root(to=first, **WHO) == first
        assert stages(intermediates) == [RootStage.TRUSTED, RootStage.REMOVED]
        with pytest.raises(NotFound, match="is announced or trusted"):
            await operations.replace_root(to="ab" * 32, **WHO)

    play(mesh, story)


def test_an_announced_root_is_dropped_for_good(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        operations = AuthorityOperations(intermediates)
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await drain(proxy)
            add_root(mesh)
            await later(mesh, intermediates)
            first, rogue = (root.root_sha256 for root in intermediates.trust.known)
            with pytest.raises(Conflict, match=f"{rogue} is announced too: drop it first"):
                await operations.replace_root(to=first, **WHO)
            with pytest.raises(Conflict, match="authority or a certificate under root"):
                await operations.drop_root(first, **WHO)
            await operations.drop_root(rogue, **WHO)
            await operations.drop_root(rogue, **WHO)
            for _ in range(2):
                await later(mesh, intermediates)  # the upstream still has it
            assert stages(intermediates) == [RootStage.TRUSTED, RootStage.REMOVED]
            assert len(mesh.authorities.bundle.roots) == 1
            assert intermediates.signing()

    play(mesh, story)


def test_a_root_that_everybody_has_and_nobody_uses_is_dropped_too(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        add_root(mesh)
        await later(mesh, intermediates)  # nobody is connected: it is trusted at once
        assert stages(intermediates) == [RootStage.TRUSTED, RootStage.TRUSTED]
        rogue = intermediates.trust.known[1].root_sha256
        await AuthorityOperations(intermediates).drop_root(rogue, **WHO)
        assert stages(intermediates) == [RootStage.TRUSTED, RootStage.REMOVED]

    play(mesh, story)


def test_of_several_announced_roots_none_is_meant(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await drain(proxy)
            for _ in range(2):
                add_root(mesh)
                await later(mesh, intermediates)
            with pytest.raises(Conflict, match="several roots are announced"):
                await AuthorityOperations(intermediates).replace_root(**WHO)

    play(mesh, story)


def test_a_clock_that_is_set_back_an_hour_stops_nothing(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        upstream = intermediates.upstream
        assert isinstance(upstream, Switch)
        mesh.clock.advance(timedelta(days=4))
        upstream.fails = True
        await intermediates.tick()  # a successor is due, and is asked for in vain
        assert "told to fail" in intermediates.problem
        upstream.fails = False
        mesh.clock.jump(timedelta(hours=-1))
        add_root(mesh)
        await later(mesh, intermediates)
        assert intermediates.problem == ""
        assert len(intermediates.trust.known) == 2

    play(mesh, story)


def test_there_is_nothing_to_replace_a_single_root_by(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        with pytest.raises(Conflict, match="no other root"):
            await AuthorityOperations(intermediates).replace_root(**WHO)

    play(mesh, story)


def test_a_restart_in_the_middle_goes_on_where_it_was(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        add_root(mesh)
        await AuthorityOperations(intermediates).replace_root(**WHO)
        restarted = intermediates_of(mesh)
        await restarted.load()
        await later(mesh, restarted)
        active = mesh.authorities.active(mesh.clock.now())
        assert active.root == restarted.trust.known[1].certificate

    play(mesh, story)


def test_a_proxy_that_refuses_the_bundle_holds_the_gate_when_it_goes_away(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
            add_root(mesh)
            await AuthorityOperations(intermediates).replace_root(**WHO)
            proxy.refuse(await proxy.receive(), "no room for two")
            mesh.clock.advance(timedelta(minutes=50))  # it holds a certificate from after, too
            (renewed,) = (await proxy.receive()).resources
            assert renewed.name == "default"
        await later(mesh, intermediates, 20 * 60)
        assert stages(intermediates)[1] is RootStage.ANNOUNCED
        (missing,) = (await root_progress(intermediates)).missing
        assert not missing.is_connected

    play(mesh, story)


def test_who_is_given_the_roots_with_a_certificate_has_them(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
        add_root(mesh)
        await AuthorityOperations(intermediates).replace_root(**WHO)
        assert stages(intermediates)[1] is RootStage.ANNOUNCED
        (holder,) = intermediates.standings.holders(mesh.clock.now())
        intermediates.gates.propagation.told("somebody else")
        await later(mesh, intermediates)
        assert stages(intermediates)[1] is RootStage.ANNOUNCED
        intermediates.gates.propagation.told(holder.holder)
        await later(mesh, intermediates)
        assert stages(intermediates)[1] is RootStage.TRUSTED

    play(mesh, story)


def test_a_change_can_be_given_up(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await drain(proxy)
            operations = AuthorityOperations(intermediates)
            with pytest.raises(Conflict, match="no change"):
                await operations.keep_root(**WHO)
            add_root(mesh)
            await operations.replace_root(**WHO)
            assert stages(intermediates) == [RootStage.RETIRING, RootStage.ANNOUNCED]
            assert await operations.keep_root(**WHO) == 1
            assert stages(intermediates) == [RootStage.TRUSTED, RootStage.ANNOUNCED]

    play(mesh, story)


def test_files_under_a_leaving_root_still_start(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        provision = intermediates.upstream.provide(mesh.clock.now())
        fixed = Switch(intermediates.upstream, can_renew=False)
        fixed.provide = lambda now: provision  # type: ignore[method-assign]

        def start() -> Intermediates:
            return of_mesh(
                mesh,
                fixed,
                authorities=Authorities(TRUST_DOMAIN),
            )

        add_root(mesh)
        first = start()
        await first.load()
        await AuthorityOperations(first).replace_root(**WHO)
        again = start()
        await again.load()
        assert again.signing() == provision.authority.authority_id

    play(mesh, story)
