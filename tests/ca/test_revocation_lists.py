"""Revocation lists: when they are signed, under which number, and what is in force."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from ca.crl import VALID
from ca.revocation.crl_store import Crls
from ca.revocation.lists import TIDIED_AFTER
from ca.revocation.lists_in_force import ListsInForce
from ca.revocation.reason import Reason
from ca.revocation.view import Crl
from meshca.clock import SystemClock
from meshca.errors import NotFound
from meshca.metrics import Metrics
from tests.builders import NOW
from tests.ca.lists_world import (
    OTHER,
    WEEK,
    one,
    replica,
    running,
    serials,
    signing_authority,
    turns,
    until,
)
from tests.fakes import FakeClock
from tests.stores import sqlite_engine

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def test_an_authority_gets_a_list_before_anything_is_revoked(tmp_path: Path) -> None:
    async def story() -> None:
        async with one(tmp_path, signing_authority(), OTHER.authority()) as world:
            await until(lambda: len(world.lists.current()) == 2, "both lists")

            crl = world.crl()

            assert serials(crl) == set()
            assert crl.number == 1
            assert crl.this_update == NOW - timedelta(minutes=10)
            assert crl.next_update == NOW + VALID
            assert x509.load_der_x509_crl(crl.der).next_update_utc == crl.next_update
            assert world.stored() == dict.fromkeys(world.lists.current(), 1)

    asyncio.run(story())


def test_what_is_revoked_is_on_the_next_list_with_its_reason(tmp_path: Path) -> None:
    async def story() -> None:
        async with one(tmp_path, signing_authority()) as world:
            await until(lambda: world.number() == 1, "the first list")
            await world.revoke(0xA, 0xB, reason=Reason.superseded)
            await until(lambda: world.number() == 2, "the second list")

            entries = list(x509.load_der_x509_crl(world.crl().der))

            assert [e.serial_number for e in entries] == [0xA, 0xB]
            reasons = {e.extensions.get_extension_for_class(x509.CRLReason).value for e in entries}
            assert reasons == {x509.CRLReason(x509.ReasonFlags.superseded)}
            assert world.crl().revision == world.state.revision
            assert world.sample("meshca_crl_entries", kind="issuer") == 2

    asyncio.run(story())


def test_a_revocation_is_in_force_within_milliseconds(tmp_path: Path) -> None:
    async def story() -> list[float]:
        clock, took = SystemClock(), []
        authority = signing_authority()
        async with one(tmp_path, authority, clock=clock) as world:
            await until(lambda: world.number() == 1, "the first list")
            for serial in range(1, 11):
                await asyncio.sleep(0.1)  # idle, as most revocations find it
                await world.revoke(serial)
                told = clock.monotonic()
                await until(lambda n=serial: world.number() == n + 1, "the next list")  # type: ignore[misc]  # bound now
                took.append(clock.monotonic() - told)
        return took

    took = sorted(asyncio.run(story()))

    assert took[len(took) // 2] < 0.1  # some 5 ms; the bound is for a machine that is shared


def test_who_is_told_finds_the_list_in_the_table(tmp_path: Path) -> None:
    async def story() -> None:
        seen: list[tuple[int, dict[str, int]]] = []
        async with one(tmp_path, signing_authority()) as world:
            world.lists.subscribe(lambda: seen.append((world.number(), dict(world.stored()))))
            await until(lambda: world.number() == 1, "the first list")
            await world.revoke(1)
            await until(lambda: world.number() == 2, "the second list")

            name = world.held[0].authority_id

            assert seen == [(1, {name: 1}), (2, {name: 2})]

    asyncio.run(story())


def test_what_is_released_leaves_and_may_come_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with one(tmp_path, signing_authority()) as world:
            await world.revoke(1, reason=Reason.certificateHold)
            await until(lambda: world.number() > 0 and serials(world.crl()) == {1}, "the hold")
            await world.release(1)
            await until(lambda: serials(world.crl()) == set(), "the release")
            await world.revoke(1)
            await until(lambda: serials(world.crl()) == {1}, "the revocation")

    asyncio.run(story())


def test_a_list_stays_when_somebody_elses_certificate_is_revoked(tmp_path: Path) -> None:
    async def story() -> None:
        async with one(tmp_path, signing_authority(), OTHER.authority()) as world:
            await until(lambda: len(world.lists.current()) == 2, "both lists")
            before = world.crl()
            await world.revoke(7, authority=world.held[1])
            await until(lambda: world.number(world.held[1]) == 2, "the other's list")
            await turns(world)

            assert world.crl() is before

    asyncio.run(story())


def test_a_list_is_signed_again_when_a_third_of_its_validity_has_passed(tmp_path: Path) -> None:
    async def story() -> None:
        clock = FakeClock()
        async with one(tmp_path, signing_authority(), clock=clock) as world:
            await until(lambda: world.number() == 1, "the first list")
            clock.advance(10 * DAY - SECOND)
            await turns(world)
            assert world.number() == 1
            clock.advance(SECOND)
            world.lists.wake()
            await until(lambda: world.number() == 2, "the renewed list")

            assert world.crl().next_update == NOW + 10 * DAY + VALID

    asyncio.run(story())


def test_a_list_that_ends_with_its_authority_is_not_signed_again_for_that(tmp_path: Path) -> None:
    async def story() -> None:
        clock, authority = FakeClock(), WEEK.authority()
        async with one(tmp_path, authority, clock=clock) as world:
            await until(lambda: world.number() == 1, "the list")
            assert world.crl().next_update == authority.not_after
            clock.advance(6 * DAY)
            await turns(world)
            assert world.number() == 1
            clock.advance(DAY)
            world.lists.wake()
            await until(lambda: not world.lists.current(), "the list to leave")

            with pytest.raises(NotFound):
                world.crl()

    asyncio.run(story())


@pytest.mark.parametrize(("back", "number"), [(4, 1), (6, 2), (60, 2)])
def test_a_list_from_the_future_is_replaced(tmp_path: Path, back: int, number: int) -> None:
    async def story() -> None:
        clock = FakeClock(at=NOW + 2 * HOUR)
        async with one(tmp_path, signing_authority(), clock=clock) as world:
            await until(lambda: world.number() == 1, "the first list")
            clock.jump(timedelta(minutes=-back))
            world.lists.wake()
            await until(lambda: world.number() == number, "the list of the earlier time")
            await turns(world)

            assert world.number() == number
            assert world.crl().this_update <= clock.now() - timedelta(minutes=5)

    asyncio.run(story())


def test_what_has_ended_stays_for_an_hour_and_then_leaves(tmp_path: Path) -> None:
    async def story() -> None:
        clock = FakeClock()
        async with one(tmp_path, signing_authority(), clock=clock) as world:
            await world.revoke(1, lives=HOUR)
            await world.revoke(2, lives=DAY)
            await until(lambda: world.number() > 0 and len(serials(world.crl())) == 2, "both")
            clock.advance(HOUR + timedelta(minutes=5))
            await world.revoke(3, lives=DAY)
            await until(lambda: serials(world.crl()) == {1, 2, 3}, "a verifier may be behind")
            number = world.number()
            clock.advance(HOUR)
            await world.state.load()
            world.lists.wake()
            await until(lambda: serials(world.crl()) == {2, 3}, "what has ended to leave")

            assert world.number() == number + 1
            await turns(world)
            assert world.number() == number + 1
            assert TIDIED_AFTER == HOUR

    asyncio.run(story())


def test_what_ended_by_a_clock_that_was_wrong_comes_back(tmp_path: Path) -> None:
    async def story() -> None:
        clock = FakeClock()
        async with one(tmp_path, signing_authority(), clock=clock) as world:
            await world.revoke(1, lives=HOUR)
            await until(lambda: world.number() > 0 and serials(world.crl()) == {1}, "the list")
            clock.jump(3 * HOUR)
            await world.state.load()
            world.lists.wake()
            await until(lambda: serials(world.crl()) == set(), "what has ended to leave")
            number = world.number()
            clock.jump(-3 * HOUR)
            world.lists.wake()
            await until(lambda: world.number() == number + 1, "the list of the earlier time")
            await world.state.load()

            await until(lambda: serials(world.crl()) == {1}, "what has not ended after all")

    asyncio.run(story())


def test_an_older_list_changes_nothing(tmp_path: Path) -> None:
    def crl(number: int) -> Crl:
        return Crl("ab", number, 0, NOW, NOW + HOUR, NOW, b"list")

    with sqlite_engine(tmp_path) as engine:
        lists = ListsInForce(crls=Crls(engine), clock=FakeClock(), metrics=Metrics())
        lists.put(crl(2), 0)
        before = lists.current()
        lists.put(crl(1), 0)

        assert lists.current() is before
        assert lists.get("ab").number == 2


def test_ensure_signs_the_first_list_at_once_and_only_once(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine) as world:
                fresh = signing_authority()
                await asyncio.gather(*(world.lists.ensure(fresh) for _ in range(3)))
                assert world.number(fresh) == 1

                world.held.append(fresh)
                async with running(world):
                    await turns(world)

                assert world.number(fresh) == 1

    asyncio.run(story())


def test_numbers_and_lists_outlive_a_restart(tmp_path: Path) -> None:
    async def story() -> None:
        authority = signing_authority()
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine, authority) as world, running(world):
                await world.revoke(1)
                await until(lambda: world.number() > 0 and serials(world.crl()) == {1}, "a list")
                before = world.crl()
            async with replica(engine, authority) as world:
                assert world.crl() == before
                async with running(world):
                    await turns(world)
                    assert world.crl() == before
                    await world.revoke(2)
                    await until(lambda: serials(world.crl()) == {1, 2}, "the next list")

                assert world.number() == before.number + 1

    asyncio.run(story())


def test_what_was_released_while_nobody_was_there_leaves(tmp_path: Path) -> None:
    async def story() -> None:
        authority = signing_authority()
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine, authority) as world, running(world):
                await world.revoke(1, reason=Reason.certificateHold)
                await until(lambda: world.number() > 0 and serials(world.crl()) == {1}, "a list")
            async with replica(engine, authority) as world:
                await world.release(1)
            async with replica(engine, authority) as world, running(world):
                await until(lambda: serials(world.crl()) == set(), "the list without it")

    asyncio.run(story())


def test_another_replica_takes_the_list_when_it_hears_of_it(tmp_path: Path) -> None:
    async def story() -> None:
        authority = signing_authority()
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine, authority) as here, replica(engine) as there:
                async with running(here), running(there):
                    await here.revoke(5)
                    await until(lambda: here.number() > 0 and serials(here.crl()) == {5}, "a list")
                    there.lists.heed()
                    await until(lambda: there.number(authority) > 0, "the list there")

                assert there.crl(authority) == here.crl()
                assert there.lists.problems == {}

    asyncio.run(story())
