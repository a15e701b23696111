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
from ca.upstream.vault.errors import VaultFault
from identity.peer import verify_peer
from meshca.errors import ProofRefused
from tests.builders import TRUST_DOMAIN, issuing, make_caller
from tests.ca.vault.fake import TOKEN, FakeVault, fake_vault, pem_of
from tests.ca.vault.world import Prepared, World, prepare, secret_file, token_settings
from tests.real_parts import ROOT

SCRIPT = ROOT / "deploy" / "vault" / "cross-sign.sh"
MOUNT = "crossed"


@pytest.fixture(scope="module")
def crossed(vault: Prepared) -> Prepared:
    """The server with a mount of its own, as the set-up script makes it, and a second root."""
    prepared = prepare(vault.server, AUTH="token", PKI_MOUNT=MOUNT, ROLE="crossed")
    prepared.server.call("POST", f"{MOUNT}/issuer/default", {"issuer_name": "first"})
    add_root(prepared, "second")
    return prepared


@pytest.fixture(scope="module")
def bridge(crossed: Prepared) -> x509.Certificate:
    """The second root, cross-signed by the first, and in the mount."""
    done = cross_sign(crossed, "first", "second")
    assert done.returncode == 0, done.stderr
    return x509.load_pem_x509_certificate(done.stdout.encode())


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


def provide_under(issuer: str, world: World, prepared: Prepared) -> Provision:
    """Return what the upstream provides while that issuer is the mount's default."""
    prepared.server.call("POST", f"{MOUNT}/root/replace", {"default": issuer})
    return world.upstream().provide(world.now())


def issuers(prepared: Prepared) -> list[str]:
    """Return the ids of the mount's issuers."""
    return list(prepared.server.call("LIST", f"{MOUNT}/issuers")["data"]["keys"])


def root_of(prepared: Prepared, issuer: str) -> x509.Certificate:
    """Return the certificate of an issuer."""
    answer = prepared.server.call("GET", f"{MOUNT}/issuer/{issuer}")
    return x509.load_pem_x509_certificate(answer["data"]["certificate"].encode())


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


def test_the_bridge_is_seen_and_is_no_root(world: World, bridge: x509.Certificate) -> None:
    upstream = world.upstream()

    roots = upstream.roots(world.now())

    assert upstream.bridges() == (bridge,)
    assert bridge not in roots
    assert {bridge.issuer, bridge.subject} <= {root.subject for root in roots}
    assert world.failures("crl") == world.failures("roots") == 0


@pytest.mark.usefixtures("bridge")
@pytest.mark.parametrize("issuer", ["first", "second"])
def test_an_intermediate_under_a_crossed_root_is_under_that_alone(
    world: World, crossed: Prepared, issuer: str
) -> None:
    root = root_of(crossed, issuer)

    authority = provide_under(issuer, world, crossed).authority

    assert authority.root == root
    assert authority.chain == (authority.certificate,)


def test_with_the_bridge_whoever_has_either_root_verifies(
    world: World, crossed: Prepared, bridge: x509.Certificate, tmp_path: Path
) -> None:
    old, new = root_of(crossed, "first"), root_of(crossed, "second")
    provision = provide_under("second", world, crossed)
    chain = [leaf_of(provision, world, tmp_path), *provision.authority.chain]

    def verify(shown: list[x509.Certificate], root: x509.Certificate) -> None:
        verify_peer(shown, roots=[root], trust_domain=TRUST_DOMAIN, now=world.now())

    with pytest.raises(ProofRefused):
        verify(chain, old)
    assert not by_openssl(tmp_path, old, *chain)
    for root in (old, new):
        verify([*chain, bridge], root)
        assert by_openssl(tmp_path, root, *chain, bridge)


@pytest.mark.usefixtures("bridge")
def test_a_bridge_signs_nothing(crossed: Prepared) -> None:
    found = [crossed.server.call("GET", f"{MOUNT}/issuer/{i}")["data"] for i in issuers(crossed)]

    (bridge,) = [issuer for issuer in found if not issuer["issuer_name"]]
    assert bridge["usage"] == "read-only"


@pytest.mark.usefixtures("bridge")
def test_a_pinned_issuer_has_no_root_above_its_own(crossed: Prepared, secrets: Path) -> None:
    secret_file(secrets / "token", crossed.token(policies=["crossed"]))
    pinned = World(token_settings(crossed.server.address, secrets, mount=MOUNT, issuer="second"))
    upstream = pinned.upstream()

    assert upstream.roots(pinned.now()) == (root_of(crossed, "second"),)
    assert upstream.bridges() == ()


def test_bridges_are_kept_while_vault_is_away_until_they_end(
    world: World, crossed: Prepared, bridge: x509.Certificate
) -> None:
    upstream = world.upstream()
    upstream.roots(world.now())
    crossed.server.seal()
    try:
        with pytest.raises(VaultFault):
            upstream.roots(world.now())
        assert upstream.bridges() == (bridge,)
    finally:
        crossed.server.unseal()

    world.clock.jump(timedelta(hours=2161))

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
    third = add_root(crossed, f"third-{len(issuers(crossed))}", **old)
    before = issuers(crossed)

    done = cross_sign(crossed, third, "second", **told)

    assert done.returncode == 1
    assert said in done.stderr
    assert issuers(crossed) == before


def test_the_script_makes_no_bridge_for_a_root_whose_name_vault_cannot_repeat(
    crossed: Prepared,
) -> None:
    third = add_root(crossed, "third", organization="One\\, Two")
    before = issuers(crossed)

    done = cross_sign(crossed, "second", third)

    assert done.returncode == 1
    assert f"Vault cannot repeat the subject of {third}" in done.stderr
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
