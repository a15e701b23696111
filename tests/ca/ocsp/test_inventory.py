"""Looking serials up: once, bounded, and without the database for what is known."""

import asyncio
import secrets
import threading
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponseStatus

from ca.ocsp import inventory, responder
from ca.ocsp.allowance import Allowance
from tests.ca.ocsp.world import World, request, responding

GOOD, REVOKED = OCSPCertStatus.GOOD, OCSPCertStatus.REVOKED
TRY_LATER = OCSPResponseStatus.TRY_LATER
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
Story = Callable[[World], Awaitable[None]]


def play(directory: Path, story: Story) -> None:
    """Run `story` in a world."""

    async def scene() -> None:
        async with responding(directory) as world:
            await story(world)

    asyncio.run(scene())


def database_away(world: World) -> None:
    """Take the tables away: every read fails."""
    with world.ca.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE certificates RENAME TO away")


def database_back(world: World) -> None:
    with world.ca.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO certificates")


class Reads:
    """Counts the statements that look a serial up, and can hold them up."""

    def __init__(self, engine: sa.Engine) -> None:
        self.count = 0
        self.may_go = threading.Event()
        self.may_go.set()
        sa.event.listen(engine, "before_cursor_execute", self._on_statement)

    def _on_statement(self, _c: object, _k: object, statement: str, *_rest: object) -> None:
        if "FROM certificates LEFT OUTER JOIN" in statement:
            self.count += 1
            assert self.may_go.wait(20)


def test_with_the_database_away_what_is_known_is_answered_and_the_rest_comes_back(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        known, unasked = await world.issue(), await world.issue()
        await world.ask(known)
        database_away(world)

        for _ in range(4):  # also when it is signed again
            assert (await world.ask(known)).certificate_status is GOOD
            assert (await world.ask(known, nonce=b"n")).certificate_status is GOOD
            assert (await world.ask(unasked)).response_status is TRY_LATER
            assert (await world.ask(2**100)).response_status is TRY_LATER
            world.clock.advance(10 * MINUTE)
        database_back(world)

        assert (await world.ask(unasked)).certificate_status is GOOD
        assert (await world.ask(2**100)).certificate_status is OCSPCertStatus.UNKNOWN

    play(tmp_path, story)


def test_with_the_database_away_an_answer_goes_on_to_its_end_and_no_further(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        world.clock.advance(30 * MINUTE)
        await world.ask(svid)
        database_away(world)
        world.clock.advance(45 * MINUTE)  # it has ended: memory alone does not say what it was

        assert (await world.ask(svid)).certificate_status is GOOD
        world.clock.advance(15 * MINUTE)
        assert (await world.ask(svid)).response_status is TRY_LATER

    play(tmp_path, story)


def test_with_the_database_away_what_is_revoked_stays_revoked(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid = await world.issue()
        await world.ask(svid)
        await world.revoke(svid)
        database_away(world)

        assert (await world.ask(svid)).certificate_status is REVOKED

    play(tmp_path, story)


def test_a_certificate_is_looked_up_once(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid, reads = await world.issue(), Reads(world.ca.engine)
        for algorithm in ("sha1", "sha256"):
            for nonce in (None, b"n"):
                await world.ask(svid, algorithm=algorithm, nonce=nonce)
        assert reads.count == 1

    play(tmp_path, story)


def test_many_who_ask_at_once_share_one_look(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid, reads = await world.issue(), Reads(world.ca.engine)
        reads.may_go.clear()
        asked = [asyncio.create_task(world.ask(svid)) for _ in range(500)]
        await asyncio.sleep(0)
        reads.may_go.set()

        assert {said.certificate_status for said in await asyncio.gather(*asked)} == {GOOD}
        assert reads.count == 1

    play(tmp_path, story)


def test_more_than_may_wait_for_the_database_are_told_to_come_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        reads = Reads(world.ca.engine)
        reads.may_go.clear()
        serials = range(1, inventory.MAXIMUM_WAITING + 11)
        asked = [asyncio.create_task(world.ask(serial)) for serial in serials]
        await asyncio.sleep(0.05)
        turned_away = [task.result().response_status for task in asked if task.done()]
        reads.may_go.set()
        await asyncio.gather(*asked)

        assert turned_away == [TRY_LATER] * 10

    play(tmp_path, story)


def test_more_lookups_a_second_than_allowed_are_told_to_come_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        known = await world.issue()
        await world.ask(known)
        world.issued.allowance = Allowance(3, world.clock)
        said = [(await world.ask(serial)).response_status for serial in range(1, 6)]

        assert said == [OCSPResponseStatus.SUCCESSFUL] * 3 + [TRY_LATER] * 2
        assert (await world.ask(known)).certificate_status is GOOD
        world.clock.advance(timedelta(seconds=1))
        assert (await world.ask(5)).certificate_status is OCSPCertStatus.UNKNOWN

    play(tmp_path, story)


def test_more_signatures_a_second_than_allowed_are_told_to_come_back(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        known = await world.issue()
        await world.ask(known)
        world.responder.allowance = Allowance(3, world.clock)
        said = [(await world.ask(known, nonce=b"n")).response_status for _ in range(5)]

        assert said == [OCSPResponseStatus.SUCCESSFUL] * 3 + [TRY_LATER] * 2
        assert (await world.ask(known)).certificate_status is GOOD

    play(tmp_path, story)


def test_a_hundred_thousand_serials_that_were_made_up_leave_nothing(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        known = await world.issue()
        await world.ask(known)
        looked_up = 3_000  # the rest is over the allowance
        world.issued.allowance = Allowance(looked_up, world.clock)
        world.responder.allowance = Allowance(looked_up, world.clock)
        template = request(world.authority, 2**127)
        head = template[:-17]

        async def ask_made_up(count: int) -> None:
            for _ in range(count):
                serial = 2**127 + secrets.randbits(127)
                await world.responder.answer(head + b"\0" + serial.to_bytes(16))

        await ask_made_up(1_000)
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await ask_made_up(1_000)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        await ask_made_up(98_000)

        assert after - before < 200_000
        assert len(world.responder._kept) == 1  # this is what is to stay small
        assert len(world.issued._kept) == 1
        assert not world.issued._pending
        assert (await world.ask(known)).certificate_status is GOOD
        assert world.sample("unknown") == looked_up
        assert world.sample("try_later") == 100_000 - looked_up

    play(tmp_path, story)


def test_what_is_kept_is_bounded(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert world.responder._kept.maxsize == responder.MAXIMUM_KEPT
        assert world.issued._kept.maxsize == inventory.MAXIMUM_KEPT

    play(tmp_path, story)


def test_a_database_that_hangs_is_not_waited_for(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        svid, reads = await world.issue(), Reads(world.ca.engine)
        reads.may_go.clear()
        async with asyncio.timeout(inventory.READ_SECONDS + 5):
            assert (await world.ask(svid)).response_status is TRY_LATER
        reads.may_go.set()
        async with asyncio.timeout(10):
            while (await world.ask(svid)).response_status is TRY_LATER:
                await asyncio.sleep(0.01)

    play(tmp_path, story)
