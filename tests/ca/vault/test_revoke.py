"""Having Vault revoke an intermediate of ours, where its policy lets us, and nothing else."""

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509

from ca.upstream.vault.errors import VaultFault
from ca.upstream.vault.revoke import colons
from meshca.clock import SystemClock
from tests.builders import TRUST_DOMAIN, make_key, make_pki
from tests.ca.vault.fake import TOKEN, FakeVault, Fault, certify, fake_vault, pem_of
from tests.ca.vault.test_transit import transit_world
from tests.ca.vault.world import SCRIPT, Prepared, World, prepare, secret_file, token_settings

REVOKE = "pki/revoke"


@pytest.fixture(scope="module")
def granted(vault: Prepared) -> Prepared:
    """The server with another policy, one that may revoke."""
    return prepare(vault.server, AUTH="token", ROLE="revoker", KEY_NAME="meshca", REVOKE="yes")


@pytest.fixture
def world(granted: Prepared, secrets: Path) -> World:
    """An upstream under that policy."""
    secret_file(secrets / "token", granted.token(policies=["revoker"]))
    return World(token_settings(granted.server.address, secrets))


def test_what_vault_signed_it_revokes_and_says_so_in_its_list(world: World) -> None:
    upstream = world.upstream()
    stolen = upstream.provide(world.now()).authority.certificate
    other = upstream.provide(world.now()).authority.certificate

    assert upstream.revoke(stolen, SystemClock().now())

    upstream.roots(world.now())
    assert upstream.revokes(stolen, world.now())
    assert not upstream.revokes(other, world.now())
    assert upstream.revoke(stolen, SystemClock().now())


def test_the_intermediate_of_a_transit_key_too(granted: Prepared, secrets: Path) -> None:
    secret_file(secrets / "token", granted.token(policies=["revoker"]))
    world = transit_world(granted.server.address, secrets)
    upstream = world.upstream()
    stolen = upstream.provide(world.now()).authority.certificate

    assert upstream.revoke(stolen, SystemClock().now())

    upstream.roots(world.now())
    assert upstream.revokes(stolen, world.now())


def test_what_has_ended_is_on_no_list_and_done_with(world: World, granted: Prepared) -> None:
    stolen = signed_by_hand(granted, ttl="1s")
    while SystemClock().now() <= stolen.not_valid_after_utc:
        granted.server.call("GET", "sys/health")

    assert world.upstream().revoke(stolen, SystemClock().now())


def signed_by_hand(prepared: Prepared, **changes: Any) -> x509.Certificate:
    """Return an intermediate that an administrator had signed."""
    wanted = {"common_name": "intermediate", "max_path_length": "0", **changes}
    csr = prepared.server.call("POST", "pki/intermediate/generate/internal", wanted)["data"]["csr"]
    path = "pki/root/sign-intermediate"
    answer = prepared.server.call("POST", path, {**wanted, "csr": csr})
    return x509.load_pem_x509_certificate(answer["data"]["certificate"].encode())


def ask(prepared: Prepared, policy: str, body: dict[str, Any]) -> int:
    """Return the status of a request to revoke under a policy of the set-up script."""
    url = f"{prepared.server.address}/v1/{REVOKE}"
    headers = {"X-Vault-Token": prepared.token(policies=[policy])}
    return urllib3.request("POST", url, json=body, headers=headers, retries=False).status


def test_the_policy_allows_it_by_certificate_and_only_when_the_script_was_told_to(
    vault: Prepared, granted: Prepared
) -> None:
    certificate = signed_by_hand(granted, ttl="1h")
    by_certificate = {"certificate": pem_of(certificate)}

    assert ask(vault, "meshca", by_certificate) == 403
    assert ask(granted, "revoker", {"serial_number": colons(certificate)}) == 403
    assert ask(granted, "revoker", by_certificate) == 200


def test_the_script_is_told_yes_or_no(vault: Prepared) -> None:
    done = subprocess.run(
        [str(SCRIPT)],
        env={**vault.server.environment, "TRUST_DOMAIN": TRUST_DOMAIN, "REVOKE": "true"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "REVOKE is true: yes or no" in done.stderr


def test_what_the_policy_denies_says_what_to_grant_and_how_to_do_without(
    vault: Prepared, secrets: Path
) -> None:
    secret_file(secrets / "token", vault.token())
    world = World(token_settings(vault.server.address, secrets))
    upstream = world.upstream()
    stolen = upstream.provide(world.now()).authority.certificate

    with pytest.raises(VaultFault) as caught:
        upstream.revoke(stolen, SystemClock().now())

    assert caught.value.condition == "policy_denies"
    said = str(caught.value)
    assert "update on pki/revoke" in said
    assert "REVOKE=yes" in said
    by_hand = said.partition("vault write pki/revoke serial_number=")[2].split(" ")[0]
    vault.server.call("POST", REVOKE, {"serial_number": by_hand})
    upstream.roots(world.now())
    assert upstream.revokes(stolen, world.now())
    assert world.failures("revoke") == 1


@pytest.fixture
def fake() -> Iterator[FakeVault]:
    """A fake Vault."""
    with fake_vault() as running:
        yield running


@pytest.fixture
def faked(fake: FakeVault, secrets: Path) -> World:
    """An upstream of the fake."""
    secret_file(secrets / "token", TOKEN)
    return World(token_settings(fake.address, secrets))


def signed(fake: FakeVault, number: int = 904) -> x509.Certificate:
    """Return an intermediate that the fake's root signed."""
    public = make_key("p256", number).public_key()
    return certify(public, issuer=fake.root, issuer_key=fake.root_key)


def test_the_certificate_itself_is_sent(faked: World, fake: FakeVault) -> None:
    stolen = signed(fake)

    assert faked.upstream().revoke(stolen, SystemClock().now())

    assert fake.asked(REVOKE) == [{"certificate": pem_of(stolen)}]


def strangers(fake: FakeVault) -> dict[str, x509.Certificate]:
    """Return what the fake must not be asked to revoke."""
    key = make_key("p256", 905)
    return {
        "another CA's": make_pki(now=SystemClock().now(), number=8).intermediate,
        "signed in its name": certify(key.public_key(), issuer=fake.root, issuer_key=key),
        "the root": fake.root,
        "another issuer": fake.cross(),
    }


@pytest.mark.parametrize(
    "which", ["another CA's", "signed in its name", "the root", "another issuer"]
)
def test_what_the_mount_did_not_sign_and_what_signs_in_it_is_not_revoked(
    faked: World, fake: FakeVault, which: str
) -> None:
    assert not faked.upstream().revoke(strangers(fake)[which], SystemClock().now())

    assert fake.asked(REVOKE) == []


def test_an_answer_that_does_not_say_it_is_none(faked: World, fake: FakeVault) -> None:
    fake.revocation = {"data": {}, "warnings": ["certificate not found"]}

    with pytest.raises(VaultFault, match="does not say that it is revoked") as caught:
        faked.upstream().revoke(signed(fake), SystemClock().now())
    assert caught.value.condition == "not_vault"


def test_a_commit_that_was_cut_off_is_asked_again(faked: World, fake: FakeVault) -> None:
    fake.faults = [Fault(REVOKE, 500, ["leadership lost while committing log"])]

    assert faked.upstream().revoke(signed(fake), SystemClock().now())
    assert len(fake.asked(REVOKE)) == 2


def test_a_sealed_vault_is_an_outage_and_not_a_refusal(faked: World, fake: FakeVault) -> None:
    fake.faults = [Fault("/issuers", 503, ["Vault is sealed"])]

    with pytest.raises(VaultFault) as caught:
        faked.upstream().revoke(signed(fake), SystemClock().now())
    assert caught.value.condition == "sealed"


def test_what_another_issuer_of_the_mount_signed_is_revoked_though_one_is_pinned(
    fake: FakeVault, secrets: Path
) -> None:
    secret_file(secrets / "token", TOKEN)
    fake.cross()
    world = World(token_settings(fake.address, secrets, issuer="new"))

    assert world.upstream().revoke(signed(fake), SystemClock().now())


def listed(fake: FakeVault, world: World, *certificates: x509.Certificate) -> list[bool]:
    """Return which of them a list with their numbers revokes."""
    fake.revoked = [c.serial_number for c in certificates]
    upstream = world.upstream()
    upstream.roots(world.now())
    return [upstream.revokes(c, world.now()) for c in certificates]


def test_a_list_speaks_for_what_its_issuer_signed_only(faked: World, fake: FakeVault) -> None:
    key = make_key("p256", 905)
    same_name = certify(key.public_key(), issuer=fake.root, issuer_key=key)

    assert listed(fake, faked, signed(fake), same_name) == [True, False]


def test_a_list_that_is_out_of_date_says_nothing(faked: World, fake: FakeVault) -> None:
    stolen = signed(fake)
    fake.revoked = [stolen.serial_number]
    upstream = faked.upstream()
    upstream.roots(faked.now())

    assert upstream.revokes(stolen, faked.now() + timedelta(days=2))
    assert not upstream.revokes(stolen, faked.now() + timedelta(days=3, minutes=1))
