"""A tainted authority signs no more, at once and for good, and its leaves are replaced."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from meshca.errors import AuthorityUnavailable, Conflict
from rotation.intermediates import Intermediates
from rotation.operations import AuthorityOperations
from rotation.stages import Stage
from tests.fakes import FakeClock
from tests.rotation.authorities import (
    Switch,
    development_upstream,
    of_mesh,
)
from tests.rotation.root_scene import play
from tests.rotation.root_steps import (
    WHO,
    acknowledge,
    add_root,
    issuers,
    later,
    until,
)
from tests.sds.conftest import TRUST_DOMAIN, Mesh, build_mesh
from tests.sds.proxy import Proxy


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """A mesh whose authorities nobody has loaded yet."""
    return build_mesh(tmp_path, FakeClock())


def test_a_taint_after_a_refused_authority_does_not_wait(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        upstream = intermediates.upstream
        assert isinstance(upstream, Switch)
        real, operations = upstream.real, AuthorityOperations(intermediates)
        add_root(mesh)
        later_root = development_upstream(mesh.directory, TRUST_DOMAIN)
        assert later_root is not real
        provision = real.provide(mesh.clock.now())
        intermediates.preparation._refuse(provision.authority, "not used here", "meshca")
        stolen = intermediates.signing()
        await operations.taint(stolen, **WHO)
        assert intermediates.signing() not in ("", stolen)

    play(mesh, story)


def test_a_tainted_authority_signs_no_more_and_its_leaves_are_replaced(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
            stolen = intermediates.signing()
            operations = AuthorityOperations(intermediates)
            await operations.taint(stolen, **WHO)
            await operations.taint(stolen, **WHO)
            assert intermediates.signing() not in ("", stolen)
            await until(lambda: issuers(mesh) == {intermediates.signing()})
            with pytest.raises(Conflict, match="live until"):
                await operations.revoke(stolen, **WHO)
            await later(mesh, intermediates, 3700)
            row = intermediates.standings.get(stolen)
            assert row.standing.stage is Stage.REVOKED

    play(mesh, story)


def test_files_of_a_tainted_authority_are_refused_at_start(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        provision = intermediates.upstream.provide(mesh.clock.now())
        fixed = Switch(intermediates.upstream, can_renew=False)
        fixed.provide = lambda now: provision  # type: ignore[method-assign]
        other = of_mesh(
            mesh,
            fixed,
        )
        await other.load()
        name = provision.authority.authority_id
        await AuthorityOperations(other).taint(name, **WHO)
        with pytest.raises(AuthorityUnavailable, match="never signs again"):
            await other.load()

    play(mesh, story)


def test_a_taint_replaces_leaves_while_the_upstream_is_away(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default", "ROOTCA")
            await acknowledge(proxy)
            old, upstream = intermediates.signing(), intermediates.upstream
            assert isinstance(upstream, Switch)
            upstream.real = development_upstream(mesh.directory, TRUST_DOMAIN, timedelta(minutes=4))
            operations = AuthorityOperations(intermediates)
            spare = await operations.prepare(**WHO)
            await operations.activate(spare, actor="uid:0", reason="a test")
            upstream.fails = True
            mesh.clock.advance(timedelta(minutes=2.3))  # a successor is due, and nobody gives one
            await operations.taint(old, **WHO)
            assert intermediates.signing() == spare
            await until(lambda: issuers(mesh) == {spare})

    play(mesh, story)


def test_a_taint_does_not_wait_for_what_the_loop_is_doing(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates) -> None:
        stolen = intermediates.signing()
        async with intermediates.lock:  # the loop is asking an upstream that is slow
            taint = asyncio.create_task(AuthorityOperations(intermediates).taint(stolen, **WHO))
            await until(lambda: intermediates.signing() == "")
        await taint
        assert intermediates.signing() not in ("", stolen)
        assert stolen not in intermediates.custody.held

    play(mesh, story)
