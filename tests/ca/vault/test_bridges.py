"""Cross-signed roots in a PKI mount, made by deploy/vault/cross-sign.sh in a real OpenBao."""

import asyncio
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.request import generate
from ca.upstream.provision import Provision
from identity.peer import verify_peer
from meshca.errors import ProofRefused
from tests.builders import TRUST_DOMAIN, issuing, make_caller
from tests.ca.vault.fake import TOKEN, FakeVault, fake_vault, pem_of
from tests.ca.vault.world import Prepared, World, prepare, secret_file, token_settings
from tests.real_parts import ROOT

SCRIPT = ROOT / "deploy" / "vault" / "cross-sign.sh"
MOUNT = "crossed"


@pytest.fixture
def crossed(vault: Prepared) -> Prepared:
    """The server with a mount of its own, as the set-up script makes it, and a second root."""
    vault.server.call("DELETE", f"sys/mounts/{MOUNT}")
    prepared = prepare(vault.server, AUTH="token", PKI_MOUNT=MOUNT, ROLE="crossed")
    add_root(prepared, "second")
    return prepared


@pytest.fixture
def world(crossed: Prepared, secrets: Path) -> World:
    """An upstream of that mount."""
    secret_file(secrets / "token", crossed.token(policies=["crossed"]))
    return World(token_settings(crossed.server.address, secrets, mount=MOUNT))


def add_root(prepared: Prepared, name: str, **changes: Any) -> str:
    """Add a root as deploy/vault/README.md says, and return its issuer's id."""
    wanted = {
        "issuer_name": name,
        "common_name": f"{name} root",
        "organization": "Example",
        "uri_sans": f"spiffe://{TRUST_DOMAIN}",
        "exclude_cn_from_sans": True,
        "key_type": "ec",
        "key_bits": 256,
        "max_path_length": 2,
        "ttl": "80000h",
    }
    path = f"{MOUNT}/root/rotate/internal"
    answer = prepared.server.call("POST", path, {**wanted, **changes})
    return str(answer["data"]["issuer_id"])


def cross_sign(
    prepared: Prepared, old: str, new: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    surroundings = {"TRUST_DOMAIN": TRUST_DOMAIN, "PKI_MOUNT": MOUNT, **environment}
    return subprocess.run(
        [str(SCRIPT), old, new],
        env={**prepared.server.environment, **surroundings},
        capture_output=True,
        text=True,
        check=False,
    )


def make_bridge(prepared: Prepared) -> x509.Certificate:
    """Return the second root, cross-signed by the first."""
    done = cross_sign(prepared, "default", "second")
    assert done.returncode == 0, done.stderr
    return x509.load_pem_x509_certificate(done.stdout.encode())


def issuers(prepared: Prepared) -> list[str]:
    """Return the ids of the mount's issuers."""
    return list(prepared.server.call("LIST", f"{MOUNT}/issuers")["data"]["keys"])


def leaf_of(provision: Provision, world: World, directory: Path) -> x509.Certificate:
    """Return an SVID that was issued under the provision."""

    async def story() -> x509.Certificate:
        async with issuing(directory, authority=provision.authority, clock=world.clock) as ca:
            caller = make_caller(expires_at=provision.authority.not_after)
            return (await ca.issuance.issue(caller, generate().request)).chain[0]

    return asyncio.run(story())


def by_openssl(directory: Path, root: x509.Certificate, *chain: x509.Certificate) -> bool:
    """Return whether openssl verifies the first of `chain`, given the rest, under `root`."""
    for name, certificates in (("ca", [root]), ("leaf", chain[:1]), ("between", chain[1:])):
        pem = b"".join(c.public_bytes(Encoding.PEM) for c in certificates)
        (directory / f"{name}.pem").write_bytes(pem)
    command = "openssl verify -x509_strict -CAfile ca.pem -untrusted between.pem leaf.pem"
    return subprocess.run(command.split(), cwd=directory, capture_output=True).returncode == 0


def test_the_bridge_is_seen_and_is_neither_a_root_nor_in_the_way(
    world: World, crossed: Prepared
) -> None:
    upstream = world.upstream()
    roots = upstream.roots(world.now())
    assert upstream.bridges() == ()

    made = make_bridge(crossed)

    assert upstream.roots(world.now()) == roots
    assert len(roots) == 2
    assert upstream.bridges() == (made,)
    assert len(issuers(crossed)) == 3
    assert world.failures("crl") == world.failures("roots") == 0


def test_an_intermediate_under_the_new_root_is_under_that_alone(
    world: World, crossed: Prepared
) -> None:
    upstream = world.upstream()
    before = upstream.provide(world.now())
    make_bridge(crossed)
    still = upstream.provide(world.now())
    crossed.server.call("POST", f"{MOUNT}/root/replace", {"default": "second"})

    after = upstream.provide(world.now())

    assert before.authority.root == still.authority.root
    assert before.authority.root.subject.rfc4514_string() == "CN=example.org root"
    assert after.authority.root.subject.rfc4514_string() == "CN=second root,O=Example"
    assert after.authority.chain == (after.authority.certificate,)
    assert len(after.authority.chain) == len(still.authority.chain) == 1


def test_with_the_bridge_whoever_has_either_root_verifies(
    world: World, crossed: Prepared, tmp_path: Path
) -> None:
    upstream = world.upstream()
    old = upstream.provide(world.now()).authority.root
    make_bridge(crossed)
    crossed.server.call("POST", f"{MOUNT}/root/replace", {"default": "second"})
    provision = upstream.provide(world.now())
    leaf = leaf_of(provision, world, tmp_path)
    chain = [leaf, *provision.authority.chain]

    def verify(shown: list[x509.Certificate], root: x509.Certificate) -> None:
        verify_peer(shown, roots=[root], trust_domain=TRUST_DOMAIN, now=world.now())

    with pytest.raises(ProofRefused):
        verify(chain, old)
    assert not by_openssl(tmp_path, old, *chain)
    for root in (old, provision.authority.root):
        verify([*chain, *upstream.bridges()], root)
        assert by_openssl(tmp_path, root, *chain, *upstream.bridges())


def test_the_bridge_signs_nothing(crossed: Prepared) -> None:
    before = set(issuers(crossed))
    make_bridge(crossed)
    (bridge,) = set(issuers(crossed)) - before

    found = crossed.server.call("GET", f"{MOUNT}/issuer/{bridge}")["data"]

    assert found["usage"] == "read-only"


def test_a_pinned_issuer_has_no_root_above_its_own(crossed: Prepared, secrets: Path) -> None:
    secret_file(secrets / "token", crossed.token(policies=["crossed"]))
    make_bridge(crossed)
    pinned = World(token_settings(crossed.server.address, secrets, mount=MOUNT, issuer="second"))
    upstream = pinned.upstream()

    (root,) = upstream.roots(pinned.now())

    assert root.subject.rfc4514_string() == "CN=second root,O=Example"
    assert upstream.bridges() == ()


NOT_MADE: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "no room below the old root": ({"max_path_length": 1}, {}, "has path length 1: a bridge"),
    "outliving the old root": ({"ttl": "100h"}, {}, "ends within 2160h: choose a shorter TTL"),
    "a lifetime that is none": ({}, {"TTL": "90d"}, "TTL is 90d: whole hours"),
}


@pytest.mark.parametrize(("old", "told", "said"), NOT_MADE.values(), ids=NOT_MADE.keys())
def test_the_script_makes_no_bridge_with(
    crossed: Prepared, old: dict[str, Any], told: dict[str, str], said: str
) -> None:
    add_root(crossed, "third", **old)
    before = issuers(crossed)

    done = cross_sign(crossed, "third", "second", **told)

    assert done.returncode == 1
    assert said in done.stderr
    assert issuers(crossed) == before


def test_the_script_makes_no_bridge_for_a_root_whose_name_vault_cannot_repeat(
    crossed: Prepared,
) -> None:
    add_root(crossed, "third", organization="One\\, Two")
    before = issuers(crossed)

    done = cross_sign(crossed, "second", "third")

    assert done.returncode == 1
    assert "Vault cannot repeat the subject of third" in done.stderr
    assert issuers(crossed) == before


def test_our_policy_does_not_allow_the_script(crossed: Prepared) -> None:
    token = crossed.token(policies=["crossed"])
    for path in ("intermediate/cross-sign", "issuers/import/cert", "issuer/second"):
        url = f"{crossed.server.address}/v1/{MOUNT}/{path}"
        answer = urllib3.request("POST", url, json={}, headers={"X-Vault-Token": token})
        assert answer.status == 403


def faked(fake: FakeVault, directory: Path) -> World:
    """Return the surroundings of an upstream of `fake`, which shows two roots and a bridge."""
    secret_file(directory / "token", TOKEN)
    return World(token_settings(fake.address, directory))


def test_bridges_are_kept_while_vault_is_away_until_they_end(
    world: World, crossed: Prepared
) -> None:
    upstream = world.upstream()
    made = make_bridge(crossed)
    upstream.roots(world.now())
    crossed.server.seal()
    try:
        assert upstream.bridges() == (made,)
    finally:
        crossed.server.unseal()

    world.clock.jump(timedelta(hours=2161))

    assert upstream.bridges() == ()


def test_a_bridge_that_is_revoked_is_not_shown(secrets: Path) -> None:
    with fake_vault() as fake:
        world = faked(fake, secrets)
        upstream = world.upstream()
        made = fake.cross()
        upstream.roots(world.now())
        assert upstream.bridges() == (made,)

        fake.revoked = [made.serial_number]
        upstream.roots(world.now())

        assert upstream.bridges() == ()


def test_what_is_no_bridge_is_left_out_and_the_roots_stay(secrets: Path) -> None:
    with fake_vault() as fake:
        world = faked(fake, secrets)
        upstream = world.upstream()
        made = fake.cross(path_length=0)

        roots = upstream.roots(world.now())

        assert upstream.bridges() == ()
        assert pem_of(made) in fake.issuers["bridge"]
        assert len(roots) == 2
