"""The lists of the CAs above in what is pushed: all of them or none, whatever the upstream does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from structlog.testing import capture_logs

from ca.upstream.issuer_crl import IssuerCrl
from meshca.errors import AuthorityUnavailable
from rotation.intermediates import Intermediates
from rotation.operations import AuthorityOperations
from rotation.revocation_views import RevocationViews
from rotation.stages import Stage
from rotation.upper_lists import KIND, UpperLists
from tests.builders import TRUST_DOMAIN
from tests.fakes import FakeClock
from tests.rotation.authorities import Switch, development_upstream
from tests.rotation.root_steps import WHO, acknowledge, add_root, intermediates_of, later
from tests.sds.conftest import Mesh, build_mesh, running
from tests.sds.proxy import Proxy

DAY = timedelta(days=1)


@dataclass
class Lists(Switch):
    """An upstream that can be told to give no lists."""

    gives_no_lists: bool = False

    def lists(self, now: datetime) -> tuple[IssuerCrl, ...]:
        """Give the real one's, or fail as when it is away."""
        if self.gives_no_lists:
            raise AuthorityUnavailable("told to fail")
        return super().lists(now)


@dataclass
class World:
    """A process, and its lists of the CAs above."""

    mesh: Mesh
    upstream: Lists
    intermediates: Intermediates
    upper: UpperLists

    @property
    def views(self) -> RevocationViews:
        """Return what is pushed."""
        return self.intermediates.views

    def pushed(self) -> list[x509.CertificateRevocationList] | None:
        """Return the lists of the CAs above that are pushed."""
        pem = self.views.current().upper
        if pem is None:
            return None
        ends = pem.split(b"-----END X509 CRL-----\n")[:-1]
        return [x509.load_pem_x509_crl(each + b"-----END X509 CRL-----\n") for each in ends]

    def lists(self, state: str) -> float | None:
        """Return the metric of the lists in `state`."""
        return self.mesh.metrics.registry.get_sample_value(
            "meshca_revocation_upper_lists", {"state": state}
        )

    async def later(self, seconds: float = 31) -> None:
        """Let time pass, and both look."""
        await later(self.mesh, self.intermediates, seconds)
        await self.upper.look()


@asynccontextmanager
async def world_of(mesh: Mesh) -> AsyncIterator[World]:
    """Start a process on the mesh's database."""
    async with running(mesh):
        upstream = Lists(development_upstream(mesh.directory, TRUST_DOMAIN))
        intermediates = intermediates_of(mesh, upstream=upstream)
        await intermediates.load()
        upper = UpperLists(
            upstream=upstream,
            trust=intermediates.trust,
            standings=intermediates.standings,
            views=intermediates.views,
            clock=mesh.clock,
            metrics=mesh.metrics,
        )
        await upper.look()
        yield World(mesh, upstream, intermediates, upper)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """A mesh whose authorities nobody has loaded yet."""
    return build_mesh(tmp_path, FakeClock())


def test_a_development_root_has_its_list_pushed_from_the_start(mesh: Mesh) -> None:
    async def story() -> None:
        async with world_of(mesh) as world:
            (crl,) = world.pushed() or []
            assert crl.issuer == world.intermediates.trust.known[0].certificate.subject
            assert (world.lists("current"), world.lists("missing")) == (1, 0)
            end = world.mesh.metrics.registry.get_sample_value(
                "meshca_crl_soonest_next_update_timestamp_seconds", {"kind": KIND}
            )
            assert crl.next_update_utc is not None
            assert end == crl.next_update_utc.timestamp()

    asyncio.run(story())


def test_an_upstream_that_is_away_leaves_its_lists_until_they_end_and_not_a_moment_longer(
    mesh: Mesh,
) -> None:
    async def story() -> None:
        async with world_of(mesh) as world:
            known = world.views.current().upper
            world.upstream.gives_no_lists = True
            with capture_logs() as logs:
                await world.later(26 * 86400)
                assert world.views.current().upper == known is not None
                await world.later(86400)
                assert world.lists("ending") == 1
                await world.upper.look()
                mesh.clock.advance(3 * DAY - timedelta(hours=1))
                await world.upper.look()
                assert world.pushed() is None
                await world.upper.look()
            assert world.lists("missing") == 1
            said = [each["event"] for each in logs if each["event"].startswith("upper_list")]
            assert said.count("upper_lists_missing") == 1
            assert said.count("upper_list_ends") == 1
            world.upstream.gives_no_lists = False
            await world.later()
            assert world.pushed()
            assert world.lists("missing") == 0

    asyncio.run(story())


def test_what_was_revoked_at_the_issuer_is_on_the_list_that_is_pushed(mesh: Mesh) -> None:
    async def story() -> None:
        async with world_of(mesh) as world:
            stolen = world.intermediates.signing()
            certificate = mesh.authorities.active(mesh.clock.now()).certificate
            await AuthorityOperations(world.intermediates).taint(stolen, **WHO)
            await world.later()
            await world.later()
            (crl,) = world.pushed() or []
            assert [entry.serial_number for entry in crl] == [certificate.serial_number]
            assert world.intermediates.standings.get(stolen).at_issuer == "revoked"

    asyncio.run(story())


def test_during_a_change_of_root_the_lists_of_both_are_pushed(mesh: Mesh) -> None:
    async def story() -> None:
        async with world_of(mesh) as world:
            add_root(mesh)
            await world.later()
            assert len(world.intermediates.trust.in_bundle) == 2
            assert len(world.pushed() or []) == 2

    asyncio.run(story())


def test_a_tainted_authority_that_is_pushed_no_more_needs_no_list_above_it(mesh: Mesh) -> None:
    async def story() -> None:
        async with world_of(mesh) as world:
            async with Proxy(mesh.doors) as proxy:
                proxy.subscribe("default")
                await acknowledge(proxy)  # a certificate under it lives: it stays in the table
            old = world.intermediates.signing()
            await AuthorityOperations(world.intermediates).taint(old, **WHO)
            assert world.intermediates.standings.get(old).standing.stage is Stage.TAINTED
            world.views.leave_out(frozenset())
            assert old in await shown(world)
            world.views.leave_out(frozenset([old]))
            assert old not in await shown(world)
            assert world.intermediates.signing() in await shown(world)

    asyncio.run(story())


async def shown(world: World) -> set[str]:
    """Return the authorities above which lists are needed."""
    rows = world.intermediates.standings.of(with_ended=False)
    return {row.standing.authority_id for row in world.upper._shown(rows)}


def test_a_change_of_what_is_pushed_is_looked_at_at_once(mesh: Mesh) -> None:
    async def story() -> None:
        async with world_of(mesh) as world:
            world.views.set_upper(None)
            loop = asyncio.create_task(world.upper.run())
            async with asyncio.timeout(10):
                while world.pushed() is None:
                    await asyncio.sleep(0)
                world.views.set_upper(None)
                world.upper.heed()
                while world.pushed() is None:
                    await asyncio.sleep(0)
            loop.cancel()
            with pytest.raises(asyncio.CancelledError):
                await loop

    asyncio.run(story())
