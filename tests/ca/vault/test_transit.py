"""The upstream `vault_transit` against a real OpenBao: the key never leaves it."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ca.request import generate
from ca.upstream.provision import Provision
from ca.upstream.vault.errors import VaultFault
from ca.upstream.vault.transit import TransitSigner
from identity.peer import verify_peer
from meshca.errors import AuthorityUnavailable, IssuanceFault
from tests.builders import TRUST_DOMAIN, issuing, make_caller, make_key
from tests.ca.vault.fake import TOKEN, FakeVault, Fault, fake_vault
from tests.ca.vault.world import Prepared, World, secret_file, settings

KEY = "transit/keys/meshca"
SIGNATURE = "sign/meshca/sha2-256"


def transit_world(address: str, directory: Path, **changes: Any) -> World:
    """Return the surroundings of an upstream with the key `meshca`."""
    values: dict[str, Any] = {
        "kind": "vault_transit",
        "address": address,
        "key_name": "meshca",
        "auth": {"method": "token", "token_file": "token"},
    }
    return World(settings({**values, **changes}, directory))


@pytest.fixture
def world(vault: Prepared, secrets: Path) -> World:
    """An upstream with a token of its own."""
    secret_file(secrets / "token", vault.token())
    return transit_world(vault.server.address, secrets)


def signer_of(provision: Provision) -> TransitSigner:
    """Return the provision's signer with its own type."""
    signer = provision.authority.signer
    assert isinstance(signer, TransitSigner)
    return signer


def issue(world: World, provision: Provision, directory: Path, count: int = 1) -> list[Any]:
    """Return SVIDs that were issued under the authority."""

    async def story() -> list[Any]:
        async with issuing(directory, authority=provision.authority, clock=world.clock) as ca:
            caller = make_caller(expires_at=provision.authority.not_after)
            asked = [ca.issuance.issue(caller, generate().request) for _ in range(count)]
            return list(await asyncio.gather(*asked))

    return asyncio.run(story())


def test_every_svid_is_signed_in_transit(world: World, tmp_path: Path) -> None:
    provision = world.upstream().provide(world.now())

    svids = issue(world, provision, tmp_path, count=20)

    for svid in svids:
        verify_peer(svid.chain, roots=provision.roots, trust_domain=TRUST_DOMAIN, now=world.now())
    assert len({svid.serial for svid in svids}) == 20


def test_each_intermediate_has_a_version_of_the_key_of_its_own(
    world: World, tmp_path: Path
) -> None:
    upstream = world.upstream()

    first, second = upstream.provide(world.now()), upstream.provide(world.now())

    assert signer_of(second).version == signer_of(first).version + 1
    assert first.authority.authority_id != second.authority.authority_id
    assert issue(world, first, tmp_path)


def test_the_key_cannot_be_taken_out(vault: Prepared, world: World) -> None:
    world.upstream().provide(world.now())

    found = vault.server.call("GET", KEY)["data"]

    assert (found["exportable"], found["deletion_allowed"]) == (False, False)


@pytest.mark.parametrize(
    ("made", "said"),
    [({"type": "rsa-2048"}, "has type rsa-2048"), ({"exportable": True}, "may be exported")],
    ids=["another type", "exportable"],
)
def test_refuses_a_key_of(vault: Prepared, secrets: Path, made: dict[str, Any], said: str) -> None:
    name = "key-" + "-".join(made)
    vault.server.call("POST", f"transit/keys/{name}", {"type": "ecdsa-p256", **made})
    secret_file(secrets / "token", vault.token(policies=["root"], no_default_policy=False))
    world = transit_world(vault.server.address, secrets, key_name=name)

    with pytest.raises(VaultFault, match=said) as caught:
        world.upstream().provide(world.now())
    assert caught.value.condition == "wrong_key"


def test_a_key_that_is_not_there_or_not_ours_is_denied(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "token", vault.token())
    world = transit_world(vault.server.address, secrets, key_name="another")

    with pytest.raises(VaultFault) as caught:
        world.upstream().provide(world.now())
    assert caught.value.condition == "policy_denies"


def test_while_vault_is_sealed_nothing_is_signed_and_afterwards_it_is(
    vault: Prepared, world: World, tmp_path: Path
) -> None:
    provision = world.upstream().provide(world.now())
    vault.server.seal()
    try:
        with pytest.raises(VaultFault) as caught:
            issue(world, provision, tmp_path)
    finally:
        vault.server.unseal()

    assert caught.value.condition == "sealed"
    assert world.failures("signature") == 1
    assert issue(world, provision, tmp_path)


def test_a_version_that_may_not_sign_any_more_says_so(vault: Prepared, world: World) -> None:
    upstream = world.upstream()
    old = signer_of(upstream.provide(world.now()))
    newest = signer_of(upstream.provide(world.now())).version
    vault.server.call("POST", f"{KEY}/config", {"min_encryption_version": newest})
    try:
        with pytest.raises(VaultFault) as caught:
            old.sign(b"message")
    finally:
        vault.server.call("POST", f"{KEY}/config", {"min_encryption_version": 0})

    assert caught.value.condition == "misconfigured"


def test_a_signature_by_another_key_does_not_leave(world: World, tmp_path: Path) -> None:
    provision = world.upstream().provide(world.now())
    signer = signer_of(provision)
    behind_our_back = replace(signer, version=signer.version - 1)
    authority = provision.authority
    swapped = type(authority)(authority.chain, authority.root, behind_our_back)

    with pytest.raises(IssuanceFault, match="signature does not verify"):
        issue(world, Provision(swapped, provision.roots), tmp_path)


@pytest.fixture
def fake() -> Iterator[FakeVault]:
    """A fake Vault."""
    with fake_vault() as running:
        yield running


@pytest.mark.parametrize(
    ("signature", "said"),
    [
        ("vault:v2:MAYCAQECAQE=", "is not one by version 1"),
        ("vault:v1:AAAA", "is not a DER ECDSA signature"),
        ("vault:v1:MAYCAQECAQE=\\n", "is not one by version 1"),
        ("", "holds no signature"),
    ],
    ids=["another version", "not DER", "a line more", "none"],
)
def test_refuses_a_signature(fake: FakeVault, secrets: Path, signature: str, said: str) -> None:
    secret_file(secrets / "token", TOKEN)
    world = transit_world(fake.address, secrets)
    key: Any = make_key().public_key()
    signer = TransitSigner(
        session=world.session(), mount="transit", key_name="meshca", version=1, public_key=key
    )
    answer = f'{{"data": {{"signature": "{signature}"}}}}'
    fake.faults = [Fault(SIGNATURE, 200, body=answer.encode())]

    with pytest.raises(AuthorityUnavailable, match=said):
        signer.sign(b"message")
    (body,) = fake.asked(SIGNATURE)
    assert (body["prehashed"], body["key_version"]) == (True, 1)
    assert len(body["input"]) == 44


def test_a_digest_of_another_length_is_never_sent(fake: FakeVault, secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    world = transit_world(fake.address, secrets)
    key: Any = make_key().public_key()
    signer = TransitSigner(
        session=world.session(), mount="transit", key_name="meshca", version=1, public_key=key
    )

    with pytest.raises(ValueError, match="32 bytes, not 1"):
        signer._sign(b"x", world.clock.monotonic() + 5)
    assert fake.seen == []
