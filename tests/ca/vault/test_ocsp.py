"""OCSP for an authority whose key is in a real OpenBao's Transit, also while that is sealed."""

import asyncio
from pathlib import Path

import pytest
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from ca.ocsp.signers import LAST_RETRY
from tests.ca.ocsp.world import responding, verify
from tests.ca.vault.test_transit import transit_world
from tests.ca.vault.world import Prepared, World, secret_file


@pytest.fixture
def world(vault: Prepared, secrets: Path) -> World:
    """An upstream with a token of its own."""
    secret_file(secrets / "token", vault.token())
    return transit_world(vault.server.address, secrets)


def test_the_signer_goes_on_while_vault_is_sealed_until_its_end(
    vault: Prepared, world: World, tmp_path: Path
) -> None:
    authority = world.upstream().provide(world.now()).authority

    async def story() -> None:
        async with responding(tmp_path, authority=authority, clock=world.clock) as ca:
            svid = await ca.issue()
            first = verify(await ca.ask(svid), authority)
            await asyncio.to_thread(vault.server.seal)
            try:
                world.clock.at = (
                    first.not_valid_after_utc - (first.not_valid_after_utc - world.clock.now()) / 4
                )
                await ca.signers.refresh()
                assert verify(await ca.ask(svid), authority) == first

                world.clock.at = first.not_valid_after_utc
                await ca.signers.refresh()
                assert (await ca.ask(svid)).response_status is OCSPResponseStatus.TRY_LATER
            finally:
                await asyncio.to_thread(vault.server.unseal)
            world.clock.advance(LAST_RETRY)
            await ca.signers.refresh()
            said = await ca.ask(svid)
            assert said.certificate_status is OCSPCertStatus.GOOD
            assert verify(said, authority) != first

    asyncio.run(story())
