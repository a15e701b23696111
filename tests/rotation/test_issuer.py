"""What the issuer above does to our authorities, and what it is told: revocation and bridges."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from audit.query import Query, find
from meshca.errors import AuthorityUnavailable
from rotation.issuer_revocation import ENDED, IMPOSSIBLE, REVOKED
from rotation.operations import AuthorityOperations
from rotation.stages import Stage
from tests.fakes import FakeClock
from tests.rotation.authorities import Switch, development_upstream
from tests.rotation.root_steps import WHO, acknowledge, add_root, intermediates_of, later
from tests.sds.conftest import TRUST_DOMAIN, Mesh, build_mesh, running
from tests.sds.proxy import Proxy


@dataclass
class Issuer(Switch):
    """An upstream that revokes, or says that it cannot, or does not answer."""

    can_revoke: bool = True
    is_away: bool = False
    told: list[x509.Certificate] = field(default_factory=list)
    listed: list[x509.Certificate] = field(default_factory=list)

    def revoke(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Do as told."""
        if self.is_away:
            raise AuthorityUnavailable("mount pki_root: sealed")
        if self.can_revoke:
            self.told.append(certificate)
        return self.can_revoke

    def revokes(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Say whether it is listed."""
        return certificate in self.listed


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """A mesh whose authorities nobody has loaded yet."""
    return build_mesh(tmp_path, FakeClock())


@pytest.fixture
def issuer(mesh: Mesh) -> Issuer:
    """The upstream of the mesh."""
    return Issuer(development_upstream(mesh.directory, TRUST_DOMAIN))


def test_what_is_revoked_here_is_revoked_at_its_issuer_once(mesh: Mesh, issuer: Issuer) -> None:
    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh, upstream=issuer)
            await intermediates.load()
            async with Proxy(mesh.doors) as proxy:
                proxy.subscribe("default")
                await acknowledge(proxy)
            stolen = intermediates.signing()
            certificate = mesh.authorities.active(mesh.clock.now()).certificate
            await AuthorityOperations(intermediates).taint(stolen, **WHO)
            await later(mesh, intermediates, 61)
            assert issuer.told == [], "not while a certificate under it lives"
            await later(mesh, intermediates, 3700)
            for _ in range(3):
                await later(mesh, intermediates, 61)
            assert issuer.told == [certificate]
            assert intermediates.standings.get(stolen).at_issuer == REVOKED
            (entry, *_) = find(mesh.writer.engine, Query(kind="authority_change"))
            assert entry.body["details"]["at_issuer"] == REVOKED

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("can_revoke", "later_seconds", "outcome"), [(False, 0, IMPOSSIBLE), (True, 8 * 86400, ENDED)]
)
def test_what_cannot_be_revoked_is_settled_too(
    mesh: Mesh, issuer: Issuer, can_revoke: bool, later_seconds: float, outcome: str
) -> None:
    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh, upstream=issuer)
            await intermediates.load()
            issuer.can_revoke = can_revoke
            stolen = intermediates.signing()
            issuer.is_away = True
            await AuthorityOperations(intermediates).taint(stolen, **WHO)
            await later(mesh, intermediates, 61)
            issuer.is_away = False
            await later(mesh, intermediates, 61 + later_seconds)
            assert intermediates.standings.get(stolen).at_issuer == outcome
            assert issuer.told == []

    asyncio.run(scene())


def test_an_issuer_is_told_in_the_first_look_and_after_a_failure_a_minute_later(
    mesh: Mesh, issuer: Issuer
) -> None:
    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh, upstream=issuer)
            await intermediates.load()
            await later(mesh, intermediates, 1)
            for is_away, told in ((False, 1), (True, 1)):
                issuer.is_away = is_away
                stolen = intermediates.signing()
                await AuthorityOperations(intermediates).taint(stolen, **WHO)
                await later(mesh, intermediates, 1)
                assert len(issuer.told) == told
            issuer.is_away = False
            await later(mesh, intermediates, 58)
            assert len(issuer.told) == 1
            await later(mesh, intermediates, 2)
            assert len(issuer.told) == 2

    asyncio.run(scene())


def test_an_issuer_that_is_away_is_asked_again_and_holds_nothing_up(
    mesh: Mesh, issuer: Issuer
) -> None:
    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh, upstream=issuer)
            await intermediates.load()
            stolen, issuer.is_away = intermediates.signing(), True
            await AuthorityOperations(intermediates).taint(stolen, **WHO)
            await later(mesh, intermediates, 61)
            assert intermediates.at_issuer.problems == {stolen: "mount pki_root: sealed"}
            assert intermediates.signing() not in ("", stolen)
            assert intermediates.problem == ""
            issuer.is_away = False
            await later(mesh, intermediates, 61)
            assert intermediates.at_issuer.problems == {}
            assert len(issuer.told) == 1

    asyncio.run(scene())


def test_an_authority_that_its_issuer_revoked_is_tainted_and_replaced(
    mesh: Mesh, issuer: Issuer
) -> None:
    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh, upstream=issuer)
            await intermediates.load()
            revoked = intermediates.signing()
            issuer.listed.append(mesh.authorities.active(mesh.clock.now()).certificate)
            await later(mesh, intermediates)
            assert intermediates.signing() not in ("", revoked)
            standing = intermediates.standings.get(revoked).standing
            assert standing.stage in (Stage.TAINTED, Stage.REVOKED)
            assert mesh.authorities.is_barred(revoked)
            reasons = [
                e.body["reason"] for e in find(mesh.writer.engine, Query(kind="authority_change"))
            ]
            assert "its issuer has revoked it" in reasons

    asyncio.run(scene())


def test_while_a_root_leaves_svids_show_the_bridge_from_it_and_not_before_or_after(
    mesh: Mesh, issuer: Issuer
) -> None:
    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh, upstream=issuer)
            await intermediates.load()

            def bridges() -> list[x509.Certificate]:
                return list(mesh.authorities.active(mesh.clock.now()).bridges)

            add_root(mesh)
            await later(mesh, intermediates)
            assert issuer.bridges(), "the development upstream has one"
            assert bridges() == []
            old = mesh.authorities.active(mesh.clock.now()).root
            async with Proxy(mesh.doors) as proxy:
                proxy.subscribe("default", "ROOTCA")
                await acknowledge(proxy)
                await later(mesh, intermediates)
                await AuthorityOperations(intermediates).replace_root(**WHO)
                await later(mesh, intermediates)
                (bridge,) = bridges()
                active = mesh.authorities.active(mesh.clock.now())
                bridge.verify_directly_issued_by(old)
                active.certificate.verify_directly_issued_by(bridge)
                await acknowledge(proxy)
                (credential,) = mesh.leaves.credentials()
                shown = x509.load_pem_x509_certificates(b"".join(credential.svid.chain_pem))
                assert shown == [*credential.svid.chain, bridge]
            await later(mesh, intermediates, 3700)
            await later(mesh, intermediates)
            assert mesh.authorities.bundle.roots == (active.root,)
            assert bridges() == []

    asyncio.run(scene())


def test_a_change_that_is_given_up_after_the_switch_keeps_its_bridge(
    mesh: Mesh, issuer: Issuer
) -> None:
    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh, upstream=issuer)
            await intermediates.load()
            async with Proxy(mesh.doors) as proxy:
                proxy.subscribe("default", "ROOTCA")
                await acknowledge(proxy)
                add_root(mesh)
                await later(mesh, intermediates)
                await acknowledge(proxy)
                await later(mesh, intermediates)
                operations = AuthorityOperations(intermediates)
                await operations.replace_root(**WHO)
                await later(mesh, intermediates)
                assert len(mesh.authorities.active(mesh.clock.now()).bridges) == 1
                await operations.keep_root(**WHO)
                await later(mesh, intermediates)
                assert len(mesh.authorities.active(mesh.clock.now()).bridges) == 1

    asyncio.run(scene())


def test_a_bridge_to_nothing_that_leaves_is_not_shown(mesh: Mesh, issuer: Issuer) -> None:
    async def scene() -> None:
        async with running(mesh):
            intermediates = intermediates_of(mesh, upstream=issuer)
            await intermediates.load()
            add_root(mesh)
            operations = AuthorityOperations(intermediates)
            await later(mesh, intermediates)
            await operations.replace_root(**WHO)
            await later(mesh, intermediates)
            mesh.clock.advance(timedelta(days=1))
            await later(mesh, intermediates)  # the old root is gone: nothing chained to it
            assert issuer.bridges()
            assert mesh.authorities.active(mesh.clock.now()).bridges == ()

    asyncio.run(scene())
