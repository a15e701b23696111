"""Credentials: made when first needed, renewed while watched, kept while renewal fails."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ca.issuer import Svid
from ca.request import IssuanceRequest, generate
from identity.caller import Caller, Evidence
from meshca.errors import IssuanceFault, StoreUnavailable
from meshca.spiffe_id import SpiffeId
from rotation.credential import make_credential
from rotation.leaves import Holding, Leaves
from tests.fakes import FakeClock
from tests.sds.conftest import Mesh, build_mesh, running

POLL_SECONDS = 0.01
DEADLINE_SECONDS = 5.0


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    """A mesh in a directory of its own."""
    return build_mesh(tmp_path, FakeClock())


def play(mesh: Mesh, story: Callable[[], Awaitable[None]]) -> None:
    """Run `story` while the mesh runs."""

    async def scene() -> None:
        async with running(mesh):
            await story()

    asyncio.run(scene())


async def until(condition: Callable[[], bool]) -> None:
    """Poll `condition`; fail at the deadline."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(POLL_SECONDS)


def caller_of(mesh: Mesh, pod: str = "web-1", **changes: object) -> Caller:
    """Return a caller whose proof is good for two days."""
    identity = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
    evidence = Evidence("fake", "test", pod_uid=pod)
    caller = Caller(identity, evidence, mesh.clock.now() + timedelta(days=2))
    return replace(caller, **changes)  # type: ignore[arg-type]  # the test names real fields


def serial_of(holding: Holding) -> str:
    """Return the serial held now, or empty text."""
    return holding.credential.svid.serial if holding.credential is not None else ""


class FailingIssuance:
    """The real issuance, which can be told to fail."""

    def __init__(self, leaves: Leaves) -> None:
        self._real = leaves.issuance
        self.fails = False
        self.calls = 0
        self.renewed: list[str] = []
        leaves.issuance = self  # type: ignore[assignment]  # a fake on the real part

    async def issue(
        self,
        caller: Caller,
        request: IssuanceRequest,
        *,
        dns_names: tuple[str, ...] = (),
        renews: str = "",
    ) -> Svid:
        """Issue, or fail as when the database is down."""
        self.calls += 1
        if self.fails:
            raise StoreUnavailable("told to fail")
        self.renewed.append(renews)
        return await self._real.issue(caller, request, dns_names=dns_names, renews=renews)


def test_many_streams_of_one_holder_cost_one_issuance(mesh: Mesh) -> None:
    issuance = FailingIssuance(mesh.leaves)

    async def story() -> None:
        holdings = [mesh.leaves.hold(caller_of(mesh), lambda: None)[0] for _ in range(50)]
        await until(lambda: all(h.credential is not None for h in holdings))
        assert issuance.calls == 1

    play(mesh, story)


def test_each_pod_has_its_own_certificate(mesh: Mesh) -> None:
    async def story() -> None:
        one, _ = mesh.leaves.hold(caller_of(mesh, "a"), lambda: None)
        two, _ = mesh.leaves.hold(caller_of(mesh, "b"), lambda: None)
        await until(lambda: bool(serial_of(one)) and bool(serial_of(two)))
        assert serial_of(one) != serial_of(two)

    play(mesh, story)


def test_renews_while_watched_and_tells_the_watcher(mesh: Mesh) -> None:
    async def story() -> None:
        told: list[str] = []
        holding, _ = mesh.leaves.hold(caller_of(mesh), lambda: told.append("changed"))
        await until(lambda: len(told) == 1)
        first = serial_of(holding)
        mesh.clock.advance(timedelta(minutes=29))
        await asyncio.sleep(0.7)  # two ticks: time in which nothing must happen
        assert serial_of(holding) == first
        mesh.clock.advance(timedelta(minutes=14))
        await until(lambda: len(told) == 2)
        assert serial_of(holding) != first

    play(mesh, story)


def test_forgets_the_key_when_nobody_watches_at_the_instant(mesh: Mesh) -> None:
    async def story() -> None:
        holding, release = mesh.leaves.hold(caller_of(mesh), lambda: None)
        await until(lambda: holding.credential is not None)
        release()
        assert len(mesh.leaves.credentials()) == 1
        mesh.clock.advance(timedelta(minutes=43))
        await until(lambda: mesh.leaves.credentials() == [])

    play(mesh, story)


def test_a_holder_that_returns_finds_its_certificate(mesh: Mesh) -> None:
    async def story() -> None:
        holding, release = mesh.leaves.hold(caller_of(mesh), lambda: None)
        await until(lambda: holding.credential is not None)
        release()
        again, _ = mesh.leaves.hold(caller_of(mesh), lambda: None)
        assert serial_of(again) == serial_of(holding)

    play(mesh, story)


def test_while_renewal_fails_the_old_certificate_stays_and_the_alarm_rises(mesh: Mesh) -> None:
    issuance = FailingIssuance(mesh.leaves)
    overdue = mesh.metrics.renewals_overdue

    async def story() -> None:
        holding, _ = mesh.leaves.hold(caller_of(mesh), lambda: None)
        await until(lambda: holding.credential is not None)
        first = serial_of(holding)
        issuance.fails = True
        mesh.clock.advance(timedelta(minutes=43))
        await until(lambda: overdue._value.get() == 1)
        assert serial_of(holding) == first
        assert holding.last_error == "told to fail"
        for _ in range(3):
            tried = issuance.calls
            mesh.clock.advance(timedelta(seconds=31))
            await until(lambda tried=tried: issuance.calls > tried)  # type: ignore[misc]  # bound now
        assert mesh.metrics.rotation_lag_seconds._value.get() > 0
        issuance.fails = False
        mesh.clock.advance(timedelta(seconds=31))
        await until(lambda: serial_of(holding) != first)
        assert holding.failures == 0
        assert issuance.renewed == ["", first], "each says which one it takes the place of"
        await until(lambda: overdue._value.get() == 0)

    play(mesh, story)


def test_a_clock_set_back_renews_what_is_not_valid_yet(mesh: Mesh) -> None:
    async def story() -> None:
        holding, _ = mesh.leaves.hold(caller_of(mesh), lambda: None)
        await until(lambda: holding.credential is not None)
        first = serial_of(holding)
        mesh.clock.jump(timedelta(seconds=-30))
        await until(lambda: serial_of(holding) != first)
        assert holding.credential is not None
        assert holding.credential.svid.not_before <= mesh.clock.now()

    play(mesh, story)


def test_a_clock_set_forward_renews_everything_once(mesh: Mesh) -> None:
    issuance = FailingIssuance(mesh.leaves)

    async def story() -> None:
        pods = [f"pod-{n}" for n in range(100)]
        holdings = [mesh.leaves.hold(caller_of(mesh, pod), lambda: None)[0] for pod in pods]
        await until(lambda: all(h.credential is not None for h in holdings))
        before = [serial_of(h) for h in holdings]
        mesh.clock.jump(timedelta(hours=2))
        await until(lambda: all(serial_of(h) != s for h, s in zip(holdings, before, strict=True)))
        assert issuance.calls == 200

    play(mesh, story)


def test_renew_now_renews_every_holder_of_an_identity(mesh: Mesh) -> None:
    async def story() -> None:
        holdings = [mesh.leaves.hold(caller_of(mesh, p), lambda: None)[0] for p in ("a", "b")]
        await until(lambda: all(h.credential is not None for h in holdings))
        before = [serial_of(h) for h in holdings]
        assert mesh.leaves.renew_now("spiffe://example.org/ns/shop/sa/web") == 2
        assert mesh.leaves.renew_now("spiffe://example.org/ns/shop/sa/other") == 0
        await until(lambda: all(serial_of(h) != s for h, s in zip(holdings, before, strict=True)))

    play(mesh, story)


def test_the_queue_does_not_grow_with_renewals(mesh: Mesh) -> None:
    async def story() -> None:
        holding, _ = mesh.leaves.hold(caller_of(mesh), lambda: None)
        await until(lambda: holding.credential is not None)
        for _ in range(20):
            before = serial_of(holding)
            mesh.leaves.renew_now("spiffe://example.org/ns/shop/sa/web")
            await until(lambda before=before: serial_of(holding) != before)  # type: ignore[misc]  # bound now
        mesh.clock.advance(timedelta(minutes=43))
        before = serial_of(holding)
        await until(lambda: serial_of(holding) != before)
        assert len(mesh.leaves._queue) <= 2

    play(mesh, story)


def test_a_fresher_proof_replaces_the_older(mesh: Mesh) -> None:
    async def story() -> None:
        older, newer = caller_of(mesh), caller_of(mesh)
        newer = replace(newer, expires_at=newer.expires_at + timedelta(hours=1))
        holding, _ = mesh.leaves.hold(newer, lambda: None)
        mesh.leaves.hold(older, lambda: None)
        assert holding.caller is newer
        newest = replace(newer, expires_at=newer.expires_at + timedelta(hours=1))
        mesh.leaves.hold(newest, lambda: None)
        assert holding.caller is newest

    play(mesh, story)


def test_a_key_that_is_not_the_certificates_is_refused(mesh: Mesh) -> None:
    async def story() -> None:
        key, other = generate(), generate()
        svid = await mesh.leaves.issuance.issue(caller_of(mesh), key.request)
        roots = mesh.authorities.bundle.roots
        assert make_credential(svid, key.private_pem, roots).svid is svid
        with pytest.raises(IssuanceFault, match="the key is not the certificate's"):
            make_credential(svid, other.private_pem, roots)

    play(mesh, story)


def test_a_chain_that_does_not_verify_is_refused(mesh: Mesh) -> None:
    async def story() -> None:
        key = generate()
        svid = await mesh.leaves.issuance.issue(caller_of(mesh), key.request)
        roots = mesh.authorities.bundle.roots
        wrong = replace(svid, chain=(svid.chain[0], roots[0]))
        with pytest.raises(IssuanceFault, match="signature does not verify"):
            make_credential(wrong, key.private_pem, roots)
        with pytest.raises(IssuanceFault, match="under no root"):
            make_credential(svid, key.private_pem, ())

    play(mesh, story)
