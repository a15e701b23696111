"""Whoever asks by the thousand is attested once a minute; a ban or a revocation counts at once."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ca.issuer import Svid
from ca.request import generate
from ca.revocation.operations import BanRequest, RevocationOperations
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.store import Inventory
from identity.caller import Caller, Evidence
from meshca.errors import ProofRefused, Refused
from meshca.spiffe_id import SpiffeId
from sds.admission import Peer
from sds.known_callers import REMEMBERED_SECONDS, KnownCallers, Proof
from tests.sds.conftest import TRUST_DOMAIN, Mesh, make_policies
from tests.sds.deciding import check_message, deciding

WHO: Any = {"actor": "uid:0", "why": "a test"}
ORDERS = SpiffeId.parse("spiffe://example.org/ns/shop/sa/orders")


class Shown:
    """A client certificate as a transport shows it; it counts how often it was parsed."""

    def __init__(self, svid: Svid) -> None:
        self.svid = svid
        self.parsed = 0

    def peer(self) -> Peer:
        """Return the peer, as parsing its certificates gives it."""
        self.parsed += 1
        return Peer("ipv4:127.0.0.1:9", self.svid.chain)

    def proof(self) -> Proof:
        """Return the proof of one call."""
        return Proof({}, self.svid.chain_pem[0], self.peer)


async def svid_of(mesh: Mesh, identity: SpiffeId = ORDERS) -> Svid:
    """Return an SVID for `identity`, as its workload would have got one."""
    account = identity.path.rpartition("/")[2]
    evidence = Evidence("fake", "test", "", "shop", account, "", f"{account}-1", f"uid-{account}-1")
    expires = mesh.clock.now() + timedelta(hours=1)
    return await mesh.leaves.issuance.issue(Caller(identity, evidence, expires), generate().request)


def operations(mesh: Mesh) -> RevocationOperations:
    """Return what revokes and bans."""
    return RevocationOperations(
        trust_domain=TRUST_DOMAIN,
        revocations=mesh.revocation.revocations,
        inventory=Inventory(mesh.writer.engine),
        state=mesh.revocation,
        writer=mesh.writer,
        clock=mesh.clock,
        confirm_above=10,
    )


def play(mesh: Mesh, story: Callable[[KnownCallers, Shown], Any]) -> None:
    """Run `story` with an SVID of orders that was just shown for the first time."""

    async def scene() -> None:
        async with deciding(mesh, make_policies(), connected=False) as doors:
            shown = Shown(await svid_of(mesh))
            first = await doors.checks.callers.admit("ext_authz", shown.proof())
            assert (first.spiffe_id, first.evidence.pod_uid) == (ORDERS, "uid-orders-1")
            await story(doors.checks.callers, shown)

    asyncio.run(scene())


def test_a_certificate_is_looked_at_once_a_minute(mesh: Mesh) -> None:
    async def story(callers: KnownCallers, shown: Shown) -> None:
        for _ in range(5):
            await callers.admit("ext_authz", shown.proof())
        assert shown.parsed == 1
        mesh.clock.advance(timedelta(seconds=REMEMBERED_SECONDS + 1))
        await callers.admit("ext_authz", shown.proof())
        assert shown.parsed == 2

    play(mesh, story)


def test_a_revoked_certificate_is_refused_at_once_though_remembered(mesh: Mesh) -> None:
    async def story(callers: KnownCallers, shown: Shown) -> None:
        serial = f"{shown.svid.chain[0].serial_number:x}"
        await operations(mesh).revoke(Selector(serial=serial), Reason.keyCompromise, **WHO)
        with pytest.raises(ProofRefused):
            await callers.admit("ext_authz", shown.proof())
        assert mesh.refusals.entries[-1].reason == "revoked"

    play(mesh, story)


def test_a_banned_caller_is_refused_at_once_though_remembered(mesh: Mesh) -> None:
    async def story(callers: KnownCallers, shown: Shown) -> None:
        banned = Selector(pod_uid="uid-orders-1")
        await operations(mesh).revoke(banned, Reason.keyCompromise, ban=BanRequest(), **WHO)
        with pytest.raises(Refused):
            await callers.admit("ext_authz", shown.proof())

    play(mesh, story)


def test_an_expired_certificate_is_refused_though_remembered(mesh: Mesh) -> None:
    async def story(callers: KnownCallers, shown: Shown) -> None:
        mesh.clock.jump(timedelta(hours=2))
        with pytest.raises(ProofRefused):
            await callers.admit("ext_authz", shown.proof())

    play(mesh, story)


def test_another_certificate_is_another_caller(mesh: Mesh) -> None:
    """A proxy that asks with a certificate of another workload is that workload's."""
    thief = SpiffeId.parse("spiffe://example.org/ns/shop/sa/thief")

    async def scene() -> None:
        async with deciding(mesh, make_policies()) as doors:
            shown = Shown(await svid_of(mesh, thief))
            await doors.checks.callers.admit("ext_authz", Shown(await svid_of(mesh)).proof())
            answer = await doors.ask(check_message(), shown.proof())
            assert answer.status.code == 7
            assert doors.seen == [], "nothing says which workload it stands before"
            assert (await doors.checks.callers.admit("x", shown.proof())).spiffe_id == thief

    asyncio.run(scene())
