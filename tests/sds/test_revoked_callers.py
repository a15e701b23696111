"""Who is banned, or comes with a revoked certificate, is refused at every door, and cut off."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ca.keys import PrivateKeySigner
from ca.request import generate
from ca.revocation.operations import BanRequest, RevocationOperations
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.store import Inventory
from identity.caller import Caller, Evidence
from meshca.errors import IdentityForbidden, ProofRefused
from meshca.spiffe_id import SpiffeId
from meshca.wiring_revocation import cut_off
from sds.admission import Peer
from tests.fakes import FakeClock
from tests.sds.conftest import TRUST_DOMAIN, Mesh, build_mesh, running
from tests.sds.proxy import Proxy

WHO: Any = {"actor": "uid:0", "why": "a test"}
WEB = "spiffe://example.org/ns/shop/sa/web"
Story = Callable[[Mesh, RevocationOperations], Awaitable[None]]


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return build_mesh(tmp_path, FakeClock())


def play(mesh: Mesh, story: Story) -> None:
    """Run `story` with the mesh, joined to its revocations as wiring does it."""
    operations = RevocationOperations(
        trust_domain=TRUST_DOMAIN,
        revocations=mesh.revocation.revocations,
        inventory=Inventory(mesh.writer.engine),
        state=mesh.revocation,
        writer=mesh.writer,
        clock=mesh.clock,
        confirm_above=10,
    )
    mesh.revocation.subscribe(lambda: cut_off(mesh.revocation, mesh.ledger, mesh.leaves))

    async def scene() -> None:
        async with running(mesh):
            await story(mesh, operations)

    asyncio.run(scene())


def caller(mesh: Mesh, *, pod: str = "uid-web-1", node: str = "node-1") -> Caller:
    evidence = Evidence("fake", "test", "", "shop", "web", "", "web-1", pod, node, "t")
    return Caller(SpiffeId.parse(WEB), evidence, mesh.clock.now() + timedelta(hours=1))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "banned",
    [
        Selector(spiffe_id=WEB),
        Selector(pod_uid="uid-web-1"),
        Selector(node="node-1"),
        Selector(token_id="t"),
        Selector(namespace="shop", service_account="web"),
        Selector(cluster="test"),
    ],
    ids=lambda selector: ",".join(selector.given()),
)
def test_who_is_banned_gets_no_certificate_and_no_stream(mesh: Mesh, banned: Selector) -> None:
    async def story(mesh: Mesh, operations: RevocationOperations) -> None:
        issuance = mesh.leaves.issuance
        await issuance.issue(caller(mesh), generate().request)
        await operations.revoke(banned, Reason.keyCompromise, ban=BanRequest(), **WHO)
        with pytest.raises(IdentityForbidden, match="is banned for good by uid:0: a test"):
            await issuance.issue(caller(mesh), generate().request)
        metadata = {"authorization": "Bearer shop/web/web-1"}
        with pytest.raises(IdentityForbidden):
            await mesh.doors.admission.admit("mesh", metadata, Peer("ipv4:127.0.0.1:1"))
        assert mesh.refusals.entries[-1].reason == "banned"

    play(mesh, story)


def test_a_ban_hits_only_whom_every_field_of_it_names(mesh: Mesh) -> None:
    async def story(mesh: Mesh, operations: RevocationOperations) -> None:
        banned = Selector(spiffe_id=WEB, node="node-1")
        await operations.revoke(banned, Reason.keyCompromise, ban=BanRequest(), **WHO)
        await mesh.leaves.issuance.issue(caller(mesh, node="node-2"), generate().request)
        with pytest.raises(IdentityForbidden):
            await mesh.leaves.issuance.issue(caller(mesh), generate().request)

    play(mesh, story)


def test_a_ban_ends_by_itself_or_by_hand(mesh: Mesh) -> None:
    async def story(mesh: Mesh, operations: RevocationOperations) -> None:
        issuance = mesh.leaves.issuance
        until_noon = BanRequest(until=mesh.clock.now() + timedelta(minutes=5))
        await operations.revoke(Selector(node="node-1"), Reason.superseded, ban=until_noon, **WHO)
        outcome = await operations.revoke(
            Selector(pod_uid="uid-web-1"), Reason.superseded, ban=BanRequest(), **WHO
        )
        assert outcome.ban is not None
        await operations.lift(outcome.ban.ban, **WHO)
        with pytest.raises(IdentityForbidden, match="until 2026-11-01T12:05"):
            await issuance.issue(caller(mesh), generate().request)
        mesh.clock.advance(timedelta(minutes=5))
        await issuance.issue(caller(mesh), generate().request)

    play(mesh, story)


def test_a_ban_that_comes_between_record_and_signature_is_heeded(mesh: Mesh) -> None:
    async def story(mesh: Mesh, operations: RevocationOperations) -> None:
        seen = []

        def check(who: Caller) -> None:
            seen.append(who)
            if len(seen) == 2:
                raise IdentityForbidden("banned", "meanwhile")

        issuance = mesh.leaves.issuance
        object.__setattr__(issuance, "check_caller", check)
        with pytest.raises(IdentityForbidden, match="meanwhile"):
            await issuance.issue(caller(mesh), generate().request)
        assert len(seen) == 2

    play(mesh, story)


def test_the_streams_of_a_banned_workload_end(mesh: Mesh) -> None:
    async def story(mesh: Mesh, operations: RevocationOperations) -> None:
        async with Proxy(mesh.doors) as banned, Proxy(mesh.doors, token="shop/api/api-1") as other:
            for proxy in (banned, other):
                proxy.subscribe("default")
                proxy.acknowledge(await proxy.receive())
            await operations.revoke(
                Selector(spiffe_id=WEB), Reason.keyCompromise, ban=BanRequest(), **WHO
            )
            await until(lambda: mesh.ledger.streams == 1)
            (left,) = mesh.ledger.connected()
            assert left.pod == "api-1"

    play(mesh, story)


def test_a_workload_whose_certificate_is_revoked_gets_another_at_once(mesh: Mesh) -> None:
    async def story(mesh: Mesh, operations: RevocationOperations) -> None:
        async with Proxy(mesh.doors) as proxy:
            proxy.subscribe("default")
            proxy.acknowledge(await proxy.receive())
            (before,) = mesh.leaves.credentials()
            serial = before.svid.serial
            outcome = await operations.revoke(Selector(serial=serial), Reason.keyCompromise, **WHO)
            assert [r.serial for r in outcome.hit] == [serial]
            proxy.acknowledge(await proxy.receive())
            (after,) = mesh.leaves.credentials()
            assert after.svid.serial != serial
            assert set(mesh.revocation.live()) == {serial}

    play(mesh, story)


async def peer_of(mesh: Mesh) -> Peer:
    """Return the peer that shows a certificate of `web`'s own key."""
    svid = await mesh.leaves.issuance.issue(caller(mesh), generate().request)
    return Peer("ipv4:127.0.0.1:1", svid.chain)


def test_a_revoked_certificate_proves_nothing(mesh: Mesh) -> None:
    async def story(mesh: Mesh, operations: RevocationOperations) -> None:
        peer = await peer_of(mesh)
        admitted = await mesh.doors.admission.admit("renew", {}, peer)
        serial = f"{peer.certificates[0].serial_number:x}"
        assert admitted.certificate_serial == serial
        await operations.revoke(Selector(serial=serial), Reason.certificateHold, **WHO)
        with pytest.raises(ProofRefused, match=f"serial {serial} was revoked at 2026"):
            await mesh.doors.admission.admit("renew", {}, peer)
        await operations.release(serial, **WHO)
        await mesh.doors.admission.admit("renew", {}, peer)

    play(mesh, story)


def test_a_certificate_forged_with_a_stolen_authority_is_not_the_recorded_one(mesh: Mesh) -> None:
    async def story(mesh: Mesh, operations: RevocationOperations) -> None:
        peer = await peer_of(mesh)
        genuine, authority = peer.certificates[0], mesh.authorities.active(mesh.clock.now())
        key = load_pem_private_key(generate().private_pem, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(genuine.issuer)
            .public_key(key.public_key())
            .serial_number(genuine.serial_number)
            .not_valid_before(genuine.not_valid_before_utc)
            .not_valid_after(genuine.not_valid_after_utc)
        )
        for extension in genuine.extensions:
            builder = builder.add_extension(extension.value, extension.critical)
        assert isinstance(authority.signer, PrivateKeySigner)
        forged = builder.sign(authority.signer.key, hashes.SHA256())
        with pytest.raises(ProofRefused, match="for another key or identity"):
            await mesh.doors.admission.admit("renew", {}, Peer("x", (forged, *authority.chain)))

    play(mesh, story)
