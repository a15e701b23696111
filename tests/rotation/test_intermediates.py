"""The intermediate: loaded at start, replaced at half of its life, watched when it cannot be."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from ca.at_rest import KeyFileAtRest
from ca.authority import Authorities, Authority
from ca.ca_certificate import make_intermediate
from ca.keys import PrivateKeySigner, check_public_key
from ca.upstream import self_signed
from ca.upstream.provision import Provision
from meshca.errors import AuthorityUnavailable
from meshca.name_locks import open_name_locks
from rotation.intermediates import Intermediates
from rotation.operations import AuthorityOperations
from rotation.stages import Stage
from tests.builders import make_authority, make_pki
from tests.fakes import FakeClock
from tests.rotation.authorities import (
    Switch,
    development_upstream,
    make_intermediates,
    of_mesh,
)
from tests.sds.conftest import TRUST_DOMAIN, Mesh, build_mesh, running


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """A mesh in a directory of its own."""
    return build_mesh(tmp_path, FakeClock())


def play(
    mesh: Mesh,
    story: Callable[[Intermediates, Switch], Awaitable[None]],
    lifetime: timedelta = timedelta(days=7),
    *,
    can_renew: bool = True,
) -> None:
    """Run `story` with intermediates under the mesh's own root."""
    real = development_upstream(mesh.directory, TRUST_DOMAIN, lifetime)
    switch = Switch(real, can_renew=can_renew)
    intermediates = of_mesh(
        mesh,
        switch,
        proxies=mesh.ledger,
    )

    async def scene() -> None:
        async with running(mesh):
            await story(intermediates, switch)

    asyncio.run(scene())


def active(mesh: Mesh) -> str:
    """Return the id of the authority that signs now."""
    return mesh.authorities.active(mesh.clock.now()).authority_id


def events(text: str, name: str) -> list[str]:
    """Return the log lines of one event."""
    return [line for line in text.splitlines() if name in line]


def test_loads_at_start_and_records_it(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates, _: Switch) -> None:
        before = active(mesh)
        await intermediates.load()
        assert active(mesh) != before

    play(mesh, story)
    with mesh.writer.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT body FROM audit_entries WHERE kind = 'authority_change'"
        ).all()
    body, certificate = (
        json.loads(rows[0][0]),
        mesh.authorities.active(mesh.clock.now()).certificate,
    )
    assert body["details"]["authority"] == active(mesh)
    assert body["fingerprint"] == certificate.fingerprint(hashes.SHA256()).hex()


def test_is_replaced_between_half_and_seven_tenths_of_its_life(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates, _: Switch) -> None:
        await intermediates.load()
        first = active(mesh)
        mesh.clock.advance(timedelta(days=7) * 0.49)
        await intermediates.tick()
        assert active(mesh) == first
        mesh.clock.advance(timedelta(days=7) * 0.22)
        await intermediates.tick()
        assert active(mesh) != first

    play(mesh, story)


def test_the_bundle_stays_as_it_was_when_only_the_intermediate_changes(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates, _: Switch) -> None:
        await intermediates.load()
        bundle = mesh.authorities.bundle
        mesh.clock.advance(timedelta(days=6))
        await intermediates.tick()
        assert mesh.authorities.bundle is bundle

    play(mesh, story)


def test_a_failed_replacement_keeps_the_old_one_and_is_tried_again_later(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates, switch: Switch) -> None:
        await intermediates.load()
        first = active(mesh)
        switch.fails = True
        mesh.clock.advance(timedelta(days=5))
        await intermediates.tick()
        tried = switch.calls
        await intermediates.tick()
        assert switch.calls == tried
        assert active(mesh) == first
        assert mesh.metrics.rotation_failures._value.get() == 1
        switch.fails = False
        mesh.clock.advance(timedelta(seconds=31))
        await intermediates.tick()
        assert active(mesh) != first

    play(mesh, story)


def test_what_cannot_be_replaced_is_warned_of_once_an_hour(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(intermediates: Intermediates, _: Switch) -> None:
        await intermediates.load()
        mesh.clock.advance(timedelta(days=5))
        for _tick in range(10):
            await intermediates.tick()
        mesh.clock.advance(timedelta(hours=1))
        await intermediates.tick()

    play(mesh, story, can_renew=False)
    captured = capsys.readouterr()
    assert len(events(captured.out + captured.err, "authority_ends")) == 2


def test_one_that_ends_within_the_hour_is_said_at_start(
    mesh: Mesh, capsys: pytest.CaptureFixture[str]
) -> None:
    async def story(intermediates: Intermediates, _: Switch) -> None:
        await intermediates.load()

    play(mesh, story, lifetime=timedelta(minutes=30))
    captured = capsys.readouterr()
    assert len(events(captured.out + captured.err, "authority_ends")) == 1


def test_nothing_loads_when_the_upstream_has_nothing(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates, switch: Switch) -> None:
        switch.fails = True
        with pytest.raises(AuthorityUnavailable, match="told to fail"):
            await intermediates.load()

    play(mesh, story)


def test_the_soonest_ends_are_published(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates, _: Switch) -> None:
        await intermediates.load()
        ends = mesh.authorities.active(mesh.clock.now()).not_after.timestamp()
        gauge = mesh.metrics.soonest_expiry
        assert gauge.labels("intermediate")._value.get() == ends
        assert gauge.labels("root")._value.get() > ends

    play(mesh, story)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_moved_an_hour_leaves_an_authority_that_signs(
    mesh: Mesh, hours: int
) -> None:
    async def story(intermediates: Intermediates, _: Switch) -> None:
        mesh.clock.advance(timedelta(hours=2))  # the root is older than the jump
        await intermediates.load()
        mesh.clock.jump(timedelta(hours=hours))
        await intermediates.tick()
        assert mesh.authorities.active(mesh.clock.now()).not_before <= mesh.clock.now()
        mesh.clock.jump(timedelta(hours=-hours))
        await intermediates.tick()
        assert mesh.authorities.active(mesh.clock.now()).not_before <= mesh.clock.now()
        rows = intermediates.standings.of()
        assert [r.standing.stage for r in rows].count(Stage.ACTIVE) == 1

    play(mesh, story)


def test_a_kept_key_signs_again_after_a_restart_without_the_upstream(
    mesh: Mesh, tmp_path: Path
) -> None:
    (tmp_path / "kek").write_text(base64.b64encode(bytes(range(32))).decode())
    (tmp_path / "kek").chmod(0o600)
    kept = KeyFileAtRest(tmp_path / "kek")

    def restarted(switch: Switch) -> Intermediates:
        return of_mesh(
            mesh,
            switch,
            authorities=Authorities(TRUST_DOMAIN),
            at_rest=kept,
        )

    async def scene() -> None:
        real = development_upstream(mesh.directory, TRUST_DOMAIN)
        async with running(mesh):
            first = restarted(Switch(real))
            await first.load()
            second = restarted(Switch(real, fails=True))
            await second.load()
            assert second.signing() == first.signing()
            mesh.clock.advance(timedelta(days=5))  # a successor is due, and cannot be had
            third = restarted(Switch(real, fails=True))
            await third.load()
            assert (third.signing(), third.problem) == (first.signing(), "told to fail")

    asyncio.run(scene())


def test_without_a_kept_key_a_restart_retires_the_one_before(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates, switch: Switch) -> None:
        await intermediates.load()
        before = intermediates.signing()
        again = of_mesh(
            mesh,
            switch,
        )
        await again.load()
        assert again.signing() != before
        standing = again.standings.get(before).standing
        assert standing.stage in (Stage.RETIRING, Stage.RETIRED)

    play(mesh, story)


def test_an_upstream_that_signs_under_a_leaving_root_is_not_followed(mesh: Mesh) -> None:
    async def story(intermediates: Intermediates, switch: Switch) -> None:
        await intermediates.load()
        first = intermediates.signing()
        other = make_authority(number=7)
        switch.more_roots = (other.root,)
        await AuthorityOperations(intermediates).prepare(actor="uid:0", reason="a spare")
        await AuthorityOperations(intermediates).replace_root(actor="uid:0", reason="test")
        assert "is to be replaced" in intermediates.problem
        assert intermediates.signing() == first
        asked = switch.calls
        for _ in range(5):  # each answer is a live CA certificate: not asked for again and again
            mesh.clock.advance(timedelta(minutes=1))
            await intermediates.tick()
        assert switch.calls == asked

    play(mesh, story)


@pytest.mark.parametrize("names", [("main", "main"), ("one", "two")])
def test_two_processes_that_advance_at_once_keep_one_active_authority_each(
    mesh: Mesh, names: tuple[str, str]
) -> None:
    locks = {name: open_name_locks(mesh.writer.engine) for name in names}

    def process(replica: str) -> Intermediates:
        return make_intermediates(
            Switch(development_upstream(mesh.directory, TRUST_DOMAIN)),
            engine=mesh.writer.engine,
            authorities=Authorities(TRUST_DOMAIN),
            leaves=mesh.leaves,
            writer=mesh.writer,
            clock=mesh.clock,
            metrics=mesh.metrics,
            replica=replica,
            locks=locks[replica],
        )

    async def scene() -> None:
        async with running(mesh):
            both = [process(name) for name in names]
            for each in both:
                await each.load()
            active: list[str] = []
            for day in range(12):
                mesh.clock.advance(timedelta(days=1))
                if day == 5:
                    self_signed.add_root(
                        mesh.directory, trust_domain=TRUST_DOMAIN, now=mesh.clock.now()
                    )
                await asyncio.gather(*(each.tick() for each in both))
                mesh.clock.advance(timedelta(seconds=31))  # past a retry
                await asyncio.gather(*(each.tick() for each in both))
                rows = both[0].standings.of()
                active = [r.standing.replica for r in rows if r.standing.stage is Stage.ACTIVE]
                assert len(active) == len(set(active)), "two of one replica sign"
            assert set(active) == set(names)

    asyncio.run(scene())


def test_the_same_key_with_a_longer_certificate_lives_as_long_as_that(mesh: Mesh) -> None:
    pki = make_pki(trust_domain=TRUST_DOMAIN, number=3)

    def files(days: int) -> Switch:
        root = pki.root
        certificate = make_intermediate(
            check_public_key(pki.intermediate_key.public_key()),
            root=root,
            root_key=pki.root_key,
            trust_domain=TRUST_DOMAIN,
            now=mesh.clock.now(),
            lifetime=timedelta(days=days),
        )
        authority = Authority((certificate,), root, PrivateKeySigner(pki.intermediate_key))
        switch = Switch(development_upstream(mesh.directory, TRUST_DOMAIN), can_renew=False)
        switch.provide = lambda now: Provision(authority, (root,))  # type: ignore[method-assign]
        return switch

    def started(switch: Switch) -> Intermediates:
        return of_mesh(
            mesh,
            switch,
            authorities=Authorities(TRUST_DOMAIN),
        )

    async def scene() -> None:
        async with running(mesh):
            first = started(files(days=2))
            await first.load()
            name = first.signing()
            mesh.clock.advance(timedelta(days=1))
            second = started(files(days=5))
            await second.load()
            mesh.clock.advance(timedelta(days=2))
            await second.tick()
            assert second.signing() == name
            assert second.standings.get(name).standing.stage is Stage.ACTIVE

    asyncio.run(scene())
