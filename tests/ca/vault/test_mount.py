"""Roots and revocation lists of a PKI mount, as anybody may see them, on a real OpenBao."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from ca.upstream.vault.errors import VaultFault
from ca.upstream.vault.upstream import VaultUpstream
from meshca.clock import SystemClock
from meshca.errors import AuthorityUnavailable
from tests.builders import make_pki
from tests.ca.vault.fake import TOKEN, FakeVault, Fault, fake_vault
from tests.ca.vault.world import Prepared, World, prepare, secret_file, token_settings

OWN = "own-mount"


@pytest.fixture(scope="module")
def own(vault: Prepared) -> Prepared:
    """The server with a policy for that mount."""
    return prepare(vault.server, AUTH="token", PKI_MOUNT=OWN, ROLE="own")


@pytest.fixture
def mounted(own: Prepared) -> Prepared:
    """The same with the mount as new: one root, which is the default."""
    own.server.call("DELETE", f"sys/mounts/{OWN}")
    own.server.call("POST", f"sys/mounts/{OWN}", {"type": "pki"})
    own.server.call("POST", f"sys/mounts/{OWN}/tune", {"max_lease_ttl": "87600h"})
    first = add_root(own, "first", ttl="87600h")
    keep = {"default": first, "default_follows_latest_issuer": False}
    own.server.call("POST", f"{OWN}/config/issuers", keep)
    return own


@pytest.fixture
def world(mounted: Prepared, secrets: Path) -> World:
    """An upstream of that mount."""
    secret_file(secrets / "token", mounted.token(policies=["own"]))
    return World(token_settings(mounted.server.address, secrets, mount=OWN))


def add_root(prepared: Prepared, name: str, **changes: Any) -> str:
    """Add a root to the mount and return its issuer's id."""
    wanted = {
        "common_name": name,
        "issuer_name": name,
        "key_type": "ec",
        "key_bits": 256,
        "max_path_length": 1,
        "ttl": "8760h",
        "uri_sans": "spiffe://example.org",
        "exclude_cn_from_sans": True,
    }
    path = f"{OWN}/root/rotate/internal"
    answer = prepared.server.call("POST", path, {**wanted, **changes})
    return str(answer["data"]["issuer_id"])


def upstream_of(world: World) -> VaultUpstream:
    """Return the upstream with its own type."""
    upstream = world.upstream()
    assert isinstance(upstream, VaultUpstream)
    return upstream


def test_a_root_added_in_vault_is_known_before_anything_is_signed_under_it(
    world: World, mounted: Prepared
) -> None:
    upstream = upstream_of(world)
    (old,) = upstream.roots(world.now())

    new_issuer = add_root(mounted, "second")
    roots = upstream.roots(world.now())
    before = upstream.provide(world.now())
    mounted.server.call("POST", f"{OWN}/root/replace", {"default": new_issuer})
    after = upstream.provide(world.now())

    assert len(roots) == 2
    assert before.authority.root == old
    assert after.authority.root != old
    assert after.authority.root in roots
    assert before.roots == after.roots == roots


def test_a_pinned_issuer_brings_its_own_root_only(
    world: World, mounted: Prepared, secrets: Path
) -> None:
    add_root(mounted, "second")
    pinned = World(token_settings(mounted.server.address, secrets, mount=OWN, issuer="second"))

    (root,) = pinned.upstream().roots(pinned.now())

    assert root.subject.rfc4514_string() == "CN=second"
    assert len(world.upstream().roots(world.now())) == 2


def test_a_pinned_issuer_signs_by_its_own_path(mounted: Prepared, secrets: Path) -> None:
    add_root(mounted, "second")
    pinned = prepare(mounted.server, AUTH="token", PKI_MOUNT=OWN, ROLE="pinned", ISSUER="second")
    secret_file(secrets / "token", pinned.token(policies=["pinned"]))
    world = World(token_settings(mounted.server.address, secrets, mount=OWN, issuer="second"))

    provision = world.upstream().provide(world.now())

    assert provision.authority.root.subject.rfc4514_string() == "CN=second"


def test_a_root_of_another_trust_domain_is_left_out(world: World, mounted: Prepared) -> None:
    upstream = world.upstream()
    before = upstream.roots(world.now())

    add_root(mounted, "foreign", uri_sans="spiffe://example.com")

    with structlog.testing.capture_logs() as logs:
        assert upstream.roots(world.now()) == before
    assert "vault_root_not_trusted" in [entry["event"] for entry in logs]


def test_a_life_that_the_mount_shortens_is_refused(world: World, mounted: Prepared) -> None:
    mounted.server.call("POST", f"sys/mounts/{OWN}/tune", {"max_lease_ttl": "24h"})

    with pytest.raises(VaultFault, match="maxTTL is being used") as caught:
        world.upstream().provide(world.now())
    assert caught.value.condition == "warning"


def test_a_root_that_ends_before_the_intermediate_is_refused(
    world: World, mounted: Prepared
) -> None:
    short = add_root(mounted, "short", ttl="24h")
    mounted.server.call("POST", f"{OWN}/root/replace", {"default": short})

    with pytest.raises(VaultFault, match="after the CA's expiration") as caught:
        world.upstream().provide(world.now())
    assert caught.value.condition == "warning"


def test_the_revocation_list_is_verified_kept_and_says_what_is_revoked(
    world: World, mounted: Prepared
) -> None:
    upstream = upstream_of(world)
    certificate = upstream.provide(world.now()).authority.certificate
    (fresh,) = upstream.lists(world.now())
    assert fresh.is_current(world.now())
    assert not fresh.is_current(world.now() + timedelta(days=4))
    assert not fresh.revokes(certificate)
    number = certificate.serial_number
    serial = number.to_bytes((number.bit_length() + 7) // 8, "big").hex(":")
    mounted.server.call("POST", f"{OWN}/revoke", {"serial_number": serial})
    assert not upstream.revokes(certificate, world.now())

    upstream.roots(world.now())

    (kept,) = upstream.lists(world.now())
    assert kept.revokes(certificate)
    assert upstream.revokes(certificate, world.now())
    assert not upstream.revokes(certificate, world.now() + timedelta(days=4))


def test_while_vault_is_sealed_roots_are_not_known_and_the_list_is_kept(
    world: World, mounted: Prepared
) -> None:
    upstream = upstream_of(world)
    upstream.roots(world.now())
    kept = upstream.lists(world.now())
    mounted.server.seal()
    try:
        world.clock.advance(timedelta(minutes=6))
        with pytest.raises(VaultFault) as caught:
            upstream.roots(world.now())
        with pytest.raises(VaultFault):
            upstream.provide(world.now())
    finally:
        mounted.server.unseal()

    assert caught.value.condition == "sealed"
    assert upstream.lists(world.now()) == kept
    assert upstream.provide(world.now()).authority.chain


def provide_often(world: World) -> None:
    """Ask for several intermediates at once."""
    for _ in range(3):
        world.upstream().provide(world.now())


def test_a_limit_that_stays_ends_within_its_time(world: World, mounted: Prepared) -> None:
    quota = f"sys/quotas/rate-limit/{OWN}"
    mounted.server.call("POST", quota, {"path": OWN, "rate": 0.001, "interval": "1h"})
    try:
        with pytest.raises(VaultFault) as caught:
            provide_often(world)
    finally:
        mounted.server.call("DELETE", quota)

    assert caught.value.condition == "rate_limited"
    assert world.waited
    assert world.upstream().provide(world.now()).authority.chain


@pytest.fixture
def fake() -> Iterator[FakeVault]:
    """A fake Vault."""
    with fake_vault() as running:
        yield running


def test_a_list_that_its_issuer_did_not_sign_is_not_kept(fake: FakeVault, secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    world = World(token_settings(fake.address, secrets))
    stranger = FakeVault(root_key=make_pki(number=7).root_key)
    stranger.root = fake.root
    forged = f'{{"data": {{"crl": {stranger.crl()!r}}}}}'.replace("'", '"').encode()
    fake.faults = [Fault("/crl", 200, body=forged)]
    upstream = upstream_of(world)

    upstream.roots(world.now())

    assert upstream.lists(world.now()) == ()
    assert world.failures("crl") == 1


def test_lists_are_fetched_with_the_roots(fake: FakeVault, secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    world = World(token_settings(fake.address, secrets))
    upstream = upstream_of(world)

    for _ in range(3):
        upstream.roots(world.now())

    assert len(fake.asked("/crl")) == 3


def test_a_list_that_cannot_be_had_stays_as_it_was(fake: FakeVault, secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    world = World(token_settings(fake.address, secrets))
    upstream = upstream_of(world)
    upstream.roots(world.now())
    before = upstream.lists(world.now())
    fake.faults = [Fault("/crl", 503, ["Vault is sealed"])]

    upstream.roots(world.now())

    assert len(before) == 1
    assert upstream.lists(world.now()) == before


def test_an_unknown_mount_is_named(vault: Prepared, secrets: Path) -> None:
    secret_file(secrets / "token", vault.token())
    world = World(token_settings(vault.server.address, secrets, mount="nowhere"))

    with pytest.raises(VaultFault, match="nowhere/issuers") as caught:
        world.upstream().roots(world.now())
    assert caught.value.condition == "not_public"


def test_a_root_that_has_expired_is_not_trusted(fake: FakeVault, secrets: Path) -> None:
    secret_file(secrets / "token", TOKEN)
    world = World(token_settings(fake.address, secrets))
    world.clock.jump(timedelta(days=366))

    with pytest.raises(AuthorityUnavailable, match="no root that may speak"):
        world.upstream().roots(SystemClock().now() + timedelta(days=366))
