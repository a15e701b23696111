"""Keys of authorities under a key of Transit, on a real OpenBao."""

from pathlib import Path
from typing import Any

import pytest

from ca.at_rest import KeyAtRest
from ca.keys import private_key_pem
from ca.upstream.vault.at_rest import TransitAtRest
from ca.upstream.vault.build import build_at_rest
from ca.upstream.vault.errors import VaultFault
from meshca.errors import AuthorityUnavailable
from meshca.settings_vault import KeysUnderTransit
from tests.builders import make_key
from tests.ca.vault.fake import TOKEN, Fault, fake_vault
from tests.ca.vault.world import Prepared, World, secret_file, token_settings

KEY = private_key_pem(make_key())


@pytest.fixture
def at_rest(vault: Prepared, secrets: Path) -> KeyAtRest:
    """Keys under the key that the script made."""
    secret_file(secrets / "token", vault.token())
    world = World(token_settings(vault.server.address, secrets))
    values = {
        "kind": "vault_transit",
        "address": vault.server.address,
        "key_name": "meshca-keys",
        "auth": {"method": "token", "token_file": "token"},
    }
    chosen = KeysUnderTransit.model_validate(values, context={"directory": secrets})
    return build_at_rest(chosen, clock=world.clock, metrics=world.metrics, patience=world.patience)


def test_a_key_comes_back_and_is_not_in_what_is_stored(at_rest: KeyAtRest) -> None:
    blob = at_rest.wrap(KEY, context="a1")

    assert blob.startswith(b"meshca-key-v1:vault_transit:vault:v1:")
    assert b"PRIVATE" not in blob
    assert at_rest.unwrap(blob, context="a1") == KEY


def test_a_key_does_not_open_as_another_authoritys(at_rest: KeyAtRest) -> None:
    blob = at_rest.wrap(KEY, context="a1")

    with pytest.raises(AuthorityUnavailable, match="a2 does not open"):
        at_rest.unwrap(blob, context="a2")


@pytest.mark.parametrize(
    "spoil",
    [lambda blob: blob[:-8] + b"AAAAAAA=", lambda blob: blob[:60]],
    ids=["changed", "cut off"],
)
def test_a_changed_key_does_not_open(at_rest: KeyAtRest, spoil: Any) -> None:
    blob = at_rest.wrap(KEY, context="a1")

    with pytest.raises(AuthorityUnavailable, match="a1 does not open"):
        at_rest.unwrap(spoil(blob), context="a1")


def test_a_key_of_another_kind_is_named(at_rest: KeyAtRest) -> None:
    with pytest.raises(AuthorityUnavailable, match="not of format meshca-key-v1:vault_transit:"):
        at_rest.unwrap(b"meshca-key-v1:file:abcd:xyz", context="a1")


def test_a_sealed_vault_is_an_outage_and_not_a_broken_key(
    vault: Prepared, at_rest: KeyAtRest
) -> None:
    blob = at_rest.wrap(KEY, context="a1")
    vault.server.seal()
    try:
        with pytest.raises(VaultFault) as caught:
            at_rest.unwrap(blob, context="a1")
    finally:
        vault.server.unseal()

    assert caught.value.condition == "sealed"


def test_a_vault_that_ignores_the_context_makes_no_difference(secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    with fake_vault() as fake:
        session = World(token_settings(fake.address, secrets)).session()
        at_rest = TransitAtRest(session=session, mount="transit", key_name="k")
        fake.faults = [Fault("encrypt/k", 200, body=b'{"data": {"ciphertext": "vault:v1:x"}}')]
        blob = at_rest.wrap(KEY, context="a1")
        (asked,) = fake.asked("encrypt/k")
        answer = f'{{"data": {{"plaintext": "{asked["plaintext"]}"}}}}'
        fake.faults = [Fault("decrypt/k", 200, body=answer.encode())]

        with pytest.raises(AuthorityUnavailable, match="a2 does not open"):
            at_rest.unwrap(blob, context="a2")
