"""What tests of a change of root do again and again, on a mesh in memory."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from ca.upstream import self_signed
from rotation.intermediates import Intermediates
from rotation.roots import RootStage
from sds.snapshot import current_bundle_versions
from tests.rotation.authorities import Switch, development_upstream, of_mesh
from tests.sds.conftest import TRUST_DOMAIN, Mesh
from tests.sds.proxy import Proxy

WHO: Final = {"actor": "uid:0", "reason": "a test"}


def intermediates_of(mesh: Mesh, **parts: Any) -> Intermediates:
    """Return a process's intermediates; a second call is a restart."""
    return of_mesh(
        mesh,
        parts.pop("upstream", None) or Switch(development_upstream(mesh.directory, TRUST_DOMAIN)),
        proxies=mesh.ledger,
        bundle_version=lambda name: current_bundle_versions(mesh.doors.shared, name),
        **parts,
    )


def add_root(mesh: Mesh) -> None:
    """Give the upstream another root, which it signs under from now on."""
    self_signed.add_root(mesh.directory, trust_domain=TRUST_DOMAIN, now=mesh.clock.now())


async def later(mesh: Mesh, intermediates: Intermediates, seconds: float = 31) -> None:
    """Let time pass, and the loop look."""
    mesh.clock.advance(timedelta(seconds=seconds))
    await intermediates.tick()


def stages(intermediates: Intermediates) -> list[RootStage]:
    """Return the stages of the roots, the oldest first."""
    return [root.stage for root in intermediates.trust.known]


def issuers(mesh: Mesh) -> set[str]:
    """Return who signed the credentials that the mesh's process holds."""
    return {credential.svid.authority_id for credential in mesh.leaves.credentials()}


async def drain(proxy: Proxy) -> None:
    """Take everything that comes, and acknowledge nothing."""
    while not await proxy.is_quiet():
        await proxy.receive()


async def acknowledge(proxy: Proxy) -> None:
    """Acknowledge everything that comes."""
    while not await proxy.is_quiet():
        proxy.acknowledge(await proxy.receive())
    await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; raises TimeoutError."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
