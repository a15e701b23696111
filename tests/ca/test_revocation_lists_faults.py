"""Revocation lists on bad days: signers, databases, clocks and replicas that fail."""

import asyncio
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca import issuer
from ca.revocation.crl_store import CrlSigned
from ca.revocation.lists import TICK_SECONDS, UNHELD_SECONDS
from ca.revocation.store import Revoked
from ca.revocation.view import Crl
from meshca.clock import SystemClock
from meshca.errors import AuthorityUnavailable, Conflict, NotFound, StoreUnavailable
from tests.builders import make_caller, make_profile, make_request
from tests.ca.lists_world import (
    OLD,
    OTHER,
    WEEK,
    Signing,
    World,
    authority_now,
    one,
    replica,
    running,
    serials,
    signing_authority,
    turns,
    until,
)
from tests.fakes import FakeClock
from tests.real_parts import require
from tests.stores import SINKS, sqlite_engine

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
TICK = TICK_SECONDS * SECOND
SEALED = AuthorityUnavailable("Vault is sealed")


def failures(world: World, step: str = "sign") -> float:
    return world.sample("meshca_crl_failures_total", kind="issuer", step=step)


def behind(world: World, cause: str) -> float:
    return world.sample("meshca_crl_behind", kind="issuer", cause=cause)


def test_while_the_signer_is_away_the_old_list_stays_and_it_is_said(tmp_path: Path) -> None:
    async def story() -> None:
        clock, signer = FakeClock(), Signing()
        authority = signing_authority(signer)
        async with one(tmp_path, authority, OTHER.authority(), clock=clock) as world:
            await until(lambda: len(world.lists.current()) == 2, "both lists")
            signer.failure = SEALED
            await world.revoke(1)
            await until(lambda: failures(world) == 1, "the first failure")
            await until(lambda: bool(world.lists.problems), "the problem")

            assert world.number() == 1
            problem = world.lists.problems[authority.authority_id]
            assert problem.endswith("list 1 stays in force: Vault is sealed")
            await turns(world)
            assert failures(world) == 1  # not tried again at once

            await world.revoke(2, authority=world.held[1])
            await until(lambda: world.number(world.held[1]) == 2, "the other's list")
            clock.advance(TICK)
            world.lists.wake()
            await until(lambda: failures(world) == 2, "the second failure")
            await until(lambda: behind(world, "failed") == 1, "the metric")

            signer.failure = None
            clock.advance(timedelta(seconds=15))
            world.lists.wake()
            await until(lambda: world.number() == 2, "the list with the revocation")
            assert serials(world.crl()) == {1}
            assert world.lists.problems == {}

    asyncio.run(story())


def test_ensure_says_why_there_is_no_first_list(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine) as world:
                authority = signing_authority(Signing(failure=SEALED))
                with pytest.raises(AuthorityUnavailable, match="sealed"):
                    await world.lists.ensure(authority)

                assert dict(world.lists.current()) == {}

    asyncio.run(story())


def test_a_signer_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    @dataclass
    class Hanging(Signing):
        released: threading.Event = field(default_factory=threading.Event)

        def sign(self, message: bytes) -> bytes:
            assert self.released.wait(30)
            return super().sign(message)

    async def story() -> None:
        signer = Hanging()
        async with one(tmp_path, signing_authority(signer), OTHER.authority()) as world:
            try:
                for number in (1, 2, 3):
                    await world.revoke(number, authority=world.held[1])
                    await until(lambda: world.number(world.held[1]) > 0, "the other's list")
                await until(
                    lambda: serials(world.crl(world.held[1])) == {1, 2, 3}, "all of the other's"
                )
                assert world.number() == 0
            finally:
                signer.released.set()
            await until(lambda: world.number() == 1, "the list that hung")

    asyncio.run(story())


class AwayOnce:
    """A sink of lists whose database is away for the first `times`."""

    def __init__(self, times: int) -> None:
        self.times = times

    def write(self, connection: sa.Connection, records: Sequence[CrlSigned]) -> None:
        if self.times:
            self.times -= 1
            raise StoreUnavailable("the disk is full")
        SINKS[CrlSigned].write(connection, records)


def test_a_list_that_is_not_stored_is_not_told(tmp_path: Path) -> None:
    async def story() -> None:
        clock, signer = FakeClock(), Signing()
        sinks = {**SINKS, CrlSigned: AwayOnce(1)}
        with sqlite_engine(tmp_path) as engine:
            authority = signing_authority(signer)
            async with (
                replica(engine, authority, clock=clock, sinks=sinks) as world,
                running(world),
            ):
                await until(lambda: bool(world.lists.problems), "the problem")
                assert dict(world.lists.current()) == {}
                assert len(signer.signed) == 1
                assert failures(world, "store") == 1
                clock.advance(TICK)
                world.lists.wake()
                await until(lambda: world.number() == 1, "the list, under the same number")

    asyncio.run(story())


@dataclass
class Stopping(Signing):
    """A signer that signs only after `go`, and says that it has begun."""

    begun: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)

    def sign(self, message: bytes) -> bytes:
        self.begun.set()
        assert self.go.wait(30)
        return super().sign(message)


def test_killed_between_signature_and_record_no_number_has_two_contents(tmp_path: Path) -> None:
    told: list[Crl] = []

    async def story() -> None:
        authority, signer = signing_authority(), Stopping()
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine, authority) as world, running(world):
                world.lists.subscribe(lambda: told.extend(world.lists.current().values()))
                await until(lambda: world.number() == 1, "the first list")
            async with replica(engine, signing_authority(signer)) as world:
                world.lists.subscribe(lambda: told.extend(world.lists.current().values()))
                async with running(world):
                    await world.revoke(1)
                    await asyncio.to_thread(signer.begun.wait, 30)
                signer.go.set()  # it signs, and nobody is there any more
                await until(lambda: len(signer.signed) == 1, "the signature")
            async with replica(engine, authority) as world:
                world.lists.subscribe(lambda: told.extend(world.lists.current().values()))
                assert world.number() == 1
                await world.revoke(2)
                async with running(world):
                    await until(lambda: world.number() == 2, "the second list")

    asyncio.run(story())

    assert [(crl.number, serials(crl)) for crl in told] == [(1, set()), (2, {1, 2})]


def test_two_who_sign_at_once_do_not_share_a_number(tmp_path: Path) -> None:
    told: dict[int, set[bytes]] = {}

    async def story() -> None:
        clock = SystemClock()
        with sqlite_engine(tmp_path) as engine:
            authority = authority_now()
            async with (
                replica(engine, authority, clock=clock) as one_of_them,
                replica(engine, authority, clock=clock) as another,
            ):
                both = (one_of_them, another)
                for world in both:
                    note(world, told)
                async with running(one_of_them), running(another):
                    for serial in range(1, 6):
                        await both[serial % 2].revoke(serial)
                        await both[1 - serial % 2].state.load()
                    await until(
                        lambda: all(w.number() > 0 and len(serials(w.crl())) == 5 for w in both),
                        "all five on the lists of both",
                    )
                    await until(lambda: another.crl() == one_of_them.crl(), "the same list")
                    assert [w.lists.problems for w in both] == [{}, {}]

        assert sorted(told) == list(range(1, max(told) + 1))
        assert {number: len(ders) for number, ders in told.items()} == dict.fromkeys(told, 1)

    asyncio.run(story())


def note(world: World, told: dict[int, set[bytes]]) -> None:
    """Write down every list that `world` tells of, and hear of those of others."""

    def tell() -> None:
        for crl in world.lists.current().values():
            told.setdefault(crl.number, set()).add(crl.der)

    world.lists.subscribe(tell)


@pytest.mark.parametrize(
    ("number", "revision"), [(1, 9), (2, 9), (4, 9), (3, 4)], ids=["first", "same", "gap", "old"]
)
def test_only_the_list_that_follows_is_taken(tmp_path: Path, number: int, revision: int) -> None:
    def crl(number: int, revision: int) -> CrlSigned:
        now = FakeClock().now()
        return CrlSigned(Crl("ab", number, revision, now, now + MINUTE, now, b"list"))

    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine) as world:
                await world.writer.submit(crl(1, 5))
                await world.writer.submit(crl(2, 5))
                with pytest.raises(Conflict, match="does not follow"):
                    await world.writer.submit(crl(number, revision))
                assert world.stored() == {"ab": 2}
                await world.writer.submit(crl(3, 5))

    asyncio.run(story())


def test_when_the_key_is_gone_the_list_stays_until_it_ends(tmp_path: Path) -> None:
    async def story() -> None:
        clock, lost = FakeClock(), WEEK.authority()
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine, lost, clock=clock) as world, running(world):
                await until(lambda: world.number() == 1, "the list")
            async with replica(engine, OTHER.authority(), clock=clock) as world, running(world):
                assert world.crl(lost).number == 1
                await world.revoke(1, authority=lost)
                for _ in range(int(UNHELD_SECONDS / TICK_SECONDS) + 1):
                    assert world.lists.problems == {}
                    clock.advance(TICK)
                    await turns(world)
                await until(lambda: bool(world.lists.problems), "the problem")

                said = world.lists.problems[lost.authority_id]
                assert f"by name only (its list ends at {lost.not_after.isoformat()}" in said
                assert behind(world, "unheld") == 1
                assert serials(world.crl(lost)) == set()

                clock.advance(timedelta(days=7))
                world.lists.wake()
                await until(lambda: lost.authority_id not in world.lists.current(), "its end")
                with pytest.raises(NotFound):
                    world.crl(lost)

    asyncio.run(story())


def test_after_thirty_days_without_a_signer_numbers_go_on(tmp_path: Path) -> None:
    async def story() -> None:
        clock, authority = FakeClock(), signing_authority()
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine, authority, clock=clock) as world, running(world):
                await until(lambda: world.number() == 1, "the list")
            clock.advance(timedelta(days=31))
            async with replica(engine, authority, clock=clock) as world:
                assert dict(world.lists.current()) == {}
                async with running(world):
                    await until(lambda: world.number() == 2, "the second list")

    asyncio.run(story())


def test_a_hundred_thousand_at_once_make_a_few_lists(tmp_path: Path) -> None:
    count, batch = 100_000, 2_500

    async def story() -> None:
        clock, signer = SystemClock(), Signing()
        async with one(tmp_path, authority_now(signer), clock=clock) as world:
            await until(lambda: world.number() == 1, "the first list")
            for start in range(1, count + 1, batch):
                await world.revoke(*range(start, start + batch))
            await until(
                lambda: world.sample("meshca_crl_entries", kind="issuer") == count, "all", 60
            )

            assert world.crl().revision == world.state.revision
            assert len(signer.signed) == world.number() <= count / batch / 2

    asyncio.run(story())


def test_a_stored_list_that_cannot_be_read_is_not_shown(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine) as world:
                now = world.clock.now()
                bad = Crl("ab", 1, 0, now, now + MINUTE, now, b"not a list")
                await world.writer.submit(CrlSigned(bad))
                await world.lists.load()

                assert dict(world.lists.current()) == {}

    asyncio.run(story())


def some_leaf() -> x509.Certificate:
    """Return a leaf that was issued half an hour ago, for an hour."""
    issued_at = FakeClock().now() - 30 * MINUTE
    prepared = issuer.prepare(
        make_caller(),
        make_request(),
        authority=OLD.authority(),
        profile=make_profile(),
        now=issued_at,
    )
    return x509.load_der_x509_certificate(issuer.sign(prepared))


@pytest.mark.parametrize("minutes", [-5, 0, 5])
def test_a_verifier_whose_clock_is_five_minutes_off_takes_it(tmp_path: Path, minutes: int) -> None:
    require(shutil.which("openssl") is not None, "openssl", "apt-get install openssl")
    good, revoked = some_leaf(), some_leaf()
    clock = FakeClock()

    async def story() -> Crl:
        async with one(tmp_path, signing_authority(), clock=clock) as world:
            await world.revoke(revoked.serial_number)
            await until(lambda: world.number() > 0 and len(serials(world.crl())) == 1, "the list")
            return world.crl()

    (tmp_path / "crl.pem").write_bytes(asyncio.run(story()).pem)
    (tmp_path / "root.pem").write_bytes(OLD.root.public_bytes(Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(OLD.intermediate.public_bytes(Encoding.PEM))
    at = str(int((clock.now() + minutes * MINUTE).timestamp()))

    def verify(name: str, leaf: bytes) -> str:
        (tmp_path / name).write_bytes(leaf)
        command = ["openssl", "verify", "-attime", at, "-crl_check", "-CRLfile", "crl.pem"]
        command += ["-CAfile", "root.pem", "-untrusted", "ca.pem", name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "good.pem: OK" in verify("good.pem", good.public_bytes(Encoding.PEM))
    assert "certificate revoked" in verify("bad.pem", revoked.public_bytes(Encoding.PEM))


def test_revoking_is_recorded_before_a_list_says_so(tmp_path: Path) -> None:
    assert list(SINKS).index(Revoked) < list(SINKS).index(CrlSigned)
