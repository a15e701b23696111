"""A real OpenBao's lists of the CAs above, and whether they are complete."""

from datetime import timedelta
from pathlib import Path

import pytest

from ca.revocation.upper import find_upper
from ca.upstream.vault.errors import VaultFault
from tests.ca.vault.world import Prepared, World, secret_file, token_settings


@pytest.fixture
def world(vault: Prepared, secrets: Path) -> World:
    """An upstream with a token."""
    secret_file(secrets / "token", vault.token())
    return World(token_settings(vault.server.address, secrets))


def test_the_mounts_lists_are_all_that_is_needed_until_vaults_72_hours_are_over(
    world: World,
) -> None:
    upstream = world.upstream()
    authority = upstream.provide(world.now()).authority
    roots = upstream.roots(world.now())
    lists = upstream.lists(world.now())

    def missing(after: timedelta) -> tuple[str, ...]:
        return find_upper([authority.chain], roots, lists, world.now() + after).missing

    assert missing(timedelta(0)) == missing(timedelta(hours=70)) == ()
    assert "ends at" in missing(timedelta(hours=71, minutes=1))[0]
    assert find_upper([authority.chain], roots, (), world.now()).pem is None


def test_a_sealed_vault_leaves_them_as_they_were(world: World, vault: Prepared) -> None:
    upstream = world.upstream()
    chain = upstream.provide(world.now()).authority.chain
    roots = upstream.roots(world.now())
    before = upstream.lists(world.now())
    vault.server.seal()
    try:
        with pytest.raises(VaultFault):
            upstream.roots(world.now())
        assert upstream.lists(world.now()) == before
        assert find_upper([chain], roots, upstream.lists(world.now()), world.now()).pem
    finally:
        vault.server.unseal()
