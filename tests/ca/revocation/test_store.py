"""The tables: what is written twice, what is read page by page, and what is not there."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ca.revocation.listing import Listing, Place, Wanted
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.store import Lifted, Released, Revocation, Revoked
from meshca.errors import Conflict, NotFound
from tests.ca.revocation.world import AUTHORITY, ORDERS, WHO, World, intent, issue, revoking

GOOD = Reason.keyCompromise


def play(engine: sa.Engine, story: Callable[[World], Awaitable[None]]) -> None:
    async def scene() -> None:
        async with revoking(engine) as world:
            await story(world)

    asyncio.run(scene())


def revocation(serial: str, world: World, reason: Reason = GOOD, by: str = "d1") -> Revocation:
    now = world.clock.now()
    return Revocation(serial, by, AUTHORITY, ORDERS, "", now + timedelta(hours=1), reason, now)


def test_what_is_revoked_stays_as_it_was(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        first = revocation("a1", world)
        await world.writer.submit(Revoked([first]))
        kept = world.operations.revocations.get("a1")
        world.clock.advance(timedelta(minutes=1))
        for reason in (Reason.superseded, Reason.certificateHold):
            await world.writer.submit(Revoked([revocation("a1", world, reason, "d2")]))

        assert world.operations.revocations.get("a1") == kept
        assert (kept.decision, kept.reason) == ("d1", GOOD)

    play(engine, story)


def test_two_batches_of_one_group_do_not_meet(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        batches = [[revocation("a1", world), revocation("a2", world)], [revocation("a2", world)]]
        await asyncio.gather(*(world.writer.submit(Revoked(batch)) for batch in batches))

        assert len(world.operations.revocations.after(0, now=world.clock.now())) == 2

    play(engine, story)


def test_each_change_has_a_later_revision(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        hold = Reason.certificateHold
        seen = [0]
        for record in (
            Revoked([revocation("a1", world, hold)]),
            Released("a1", world.clock.now()),
            Revoked([revocation("a1", world, hold)]),
            Revoked([revocation("a1", world, GOOD)]),
        ):
            await world.writer.submit(record)
            (changed,) = world.operations.revocations.after(seen[-1], now=world.clock.now())
            seen.append(changed.revision)

        assert seen == sorted(set(seen))
        assert world.operations.revocations.after(seen[-1], now=world.clock.now()) == []

    play(engine, story)


def test_what_ended_long_ago_is_not_read_again(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        await world.writer.submit(Revoked([revocation("a1", world)]))
        read = world.operations.revocations.after
        assert len(read(0, now=world.clock.now() + timedelta(minutes=119))) == 1
        assert read(0, now=world.clock.now() + timedelta(hours=2)) == []

    play(engine, story)


def test_of_two_who_release_or_lift_at_once_one_is_refused(engine: sa.Engine) -> None:
    """Both have looked before either wrote."""

    async def story(world: World) -> None:
        now = world.clock.now()
        await world.writer.submit(Revoked([revocation("a1", world, Reason.certificateHold)]))
        await world.writer.submit(Released("a1", now))
        with pytest.raises(Conflict, match="a1 is not on hold"):
            await world.writer.submit(Released("a1", now))
        with pytest.raises(Conflict, match="was lifted already"):
            await world.writer.submit(Lifted("0" * 16, now))

    play(engine, story)


def test_a_serial_is_found_however_it_is_written(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        await world.writer.submit(Revoked([revocation("a1b2", world)]))
        for text in ("a1b2", "A1:B2", "00:a1:b2"):
            assert world.operations.revocations.get(text).serial == "a1b2"
        with pytest.raises(NotFound, match="serial a1b is not revoked"):
            world.operations.revocations.get("a1b")
        with pytest.raises(NotFound, match="there is no decision x"):
            world.operations.revocations.decision("x")

    play(engine, story)


def test_pages_hold_each_revocation_once_the_newest_first(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        listing, place = Listing(engine), None
        found: list[str] = []
        for batch in (["a1", "a2", "a3"], ["b1", "b2"]):
            await world.writer.submit(Revoked([revocation(serial, world) for serial in batch]))
        while page := listing.page(Wanted(), now=world.clock.now(), limit=2, after=place):
            found += [r.serial for r in page]
            place = Place(page[-1].revision, page[-1].serial)

        assert found == ["b1", "b2", "a1", "a2", "a3"]

    play(engine, story)


@pytest.mark.parametrize(
    ("wanted", "serials"),
    [
        (Wanted(spiffe_id=ORDERS), ["a2", "a1"]),
        (Wanted(spiffe_id="spiffe://example.org/x"), []),
        (Wanted(authority_id=AUTHORITY), ["a2", "a1"]),
        (Wanted(decision="d2"), ["a2"]),
        (Wanted(reason=Reason.certificateHold), ["a2"]),
    ],
    ids=["identity", "another identity", "authority", "decision", "reason"],
)
def test_pages_are_filtered_by(engine: sa.Engine, wanted: Wanted, serials: list[str]) -> None:
    async def story(world: World) -> None:
        await world.writer.submit(Revoked([revocation("a1", world)]))
        await world.writer.submit(
            Revoked([revocation("a2", world, Reason.certificateHold, by="d2")])
        )
        page = Listing(engine).page(wanted, now=world.clock.now(), limit=10)
        assert [r.serial for r in page] == serials

    play(engine, story)


def test_of_many_certificates_those_that_are_revoked_are_found(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        hold = Reason.certificateHold
        await world.writer.submit(Revoked([revocation(s, world, hold) for s in ("a1", "a2")]))
        await world.writer.submit(Released("a2", world.clock.now()))
        found = Listing(engine).among(["a1", "a2", *(f"f{n}" for n in range(1_200))])

        assert list(found) == ["a1"]
        assert Listing(engine).among([]) == {}

    play(engine, story)


def test_what_is_hit_is_told_in_the_order_in_which_it_was_issued(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        issue(engine, *(intent(f"f{n:06x}", world.clock) for n in range(2_000)), sign=False)
        selector = Selector(node="node-1")
        outcome = await world.operations.revoke(selector, GOOD, confirmed=2_000, **WHO)
        serials = [r.serial for r in outcome.hit]

        assert serials == sorted(serials)

    play(engine, story)
