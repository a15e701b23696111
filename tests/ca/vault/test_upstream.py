"""The upstream `vault` against a real OpenBao, prepared by deploy/vault/."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ca.upstream.probe import check_by_probe
from ca.upstream.vault.errors import VaultFault
from tests.builders import TRUST_DOMAIN
from tests.ca.vault.world import Prepared, World, secret_file, token_settings


@pytest.fixture
def world(vault: Prepared, secrets: Path) -> World:
    """An upstream with a token of its own."""
    secret_file(secrets / "token", vault.token())
    return World(token_settings(vault.server.address, secrets))


def refused(world: World, **changes: object) -> VaultFault:
    """Return why the upstream provides nothing."""
    with pytest.raises(VaultFault) as caught:
        world.upstream(**changes).provide(world.now())
    return caught.value


def test_vault_signs_exactly_the_intermediate_that_we_ask_for(world: World) -> None:
    provision = world.upstream().provide(world.now())

    certificate = provision.authority.certificate
    extensions = certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(n.value) for n in names] == [f"spiffe://{TRUST_DOMAIN}"]
    constraints = extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)
    lives = certificate.not_valid_after_utc - world.now()
    assert timedelta(days=6, hours=23, minutes=59) < lives < timedelta(days=7, minutes=1)
    assert provision.roots == (provision.authority.root,)
    check_by_probe(provision.authority, trust_domain=TRUST_DOMAIN, now=world.now())


def test_each_call_has_a_key_of_its_own(world: World) -> None:
    upstream = world.upstream()

    first, second = upstream.provide(world.now()), upstream.provide(world.now())

    assert upstream.can_renew
    assert first.authority.authority_id != second.authority.authority_id
    assert first.roots == second.roots
