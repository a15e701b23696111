"""What a process knows of revocations and bans: by each field, over time, replicas and outages."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ca.revocation.operations import BanRequest
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.state import KEPT_AFTER_END
from ca.revocation.store import REVOCATIONS_CHANGED
from meshca.change_feed import ChangeFeed
from meshca.database import open_engine
from meshca.errors import IdentityForbidden, ProofRefused, StoreUnavailable
from meshca.schema import migrate
from tests.ca.revocation.world import (
    AUTHORITY,
    ORDERS,
    WHO,
    World,
    caller,
    fingerprint,
    intent,
    issue,
    revoking,
)
from tests.stores import Postgresql

HOUR = timedelta(hours=1)
GOOD = Reason.keyCompromise
FIELDS = {
    "spiffe_id": (ORDERS, f"{ORDERS}-2"),
    "cluster": ("prod-eu", "prod-us"),
    "namespace": ("shop", "Shop"),
    "service_account": ("orders", "orders2"),
    "pod_uid": ("uid-1", "uid-11"),
    "node": ("node-1", "node-10"),
    "token_id": ("token-1", ""),
}


def play(engine: sa.Engine, story: Callable[[World], Awaitable[None]]) -> None:
    async def scene() -> None:
        async with revoking(engine) as world:
            await story(world)

    asyncio.run(scene())


async def ban(world: World, until: timedelta | None = None, /, **said: str) -> str:
    ends = None if until is None else world.clock.now() + until
    made = await world.operations.ban(Selector(**said), BanRequest(ends), **WHO)
    return made.ban


def is_banned(world: World, **differs: str) -> bool:
    """Return whether `check_caller` refuses the caller of these tests, with what differs."""
    try:
        world.state.check_caller(caller(world.clock, **differs))
    except IdentityForbidden as refused:
        return refused.reason == "banned"
    return False


@pytest.mark.parametrize("name", FIELDS)
def test_bans_by(engine: sa.Engine, name: str) -> None:
    async def story(world: World) -> None:
        banned, other = FIELDS[name]
        assert not is_banned(world)
        await ban(world, **{name: banned})

        assert is_banned(world)
        assert not is_banned(world, **{name: other})

    play(engine, story)


def test_a_ban_of_several_fields_needs_all_of_them(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        await ban(world, namespace="shop", service_account="orders", node="node-1")

        assert is_banned(world)
        assert is_banned(world, pod_uid="another")
        for name in ("namespace", "service_account", "node"):
            assert not is_banned(world, **{name: "other"})

    play(engine, story)


def test_a_ban_ends_by_the_clock_and_not_before(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        await ban(world, HOUR, node="node-1")
        world.clock.advance(HOUR - timedelta(seconds=1))
        assert is_banned(world)
        world.clock.advance(timedelta(seconds=1))
        assert not is_banned(world), "without looking at the database"
        await world.state.load()
        assert list(world.state.bans) == []

    play(engine, story)


def test_of_two_bans_the_one_that_holds_counts(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        first = await ban(world, node="node-1")
        await ban(world, node="node-1", namespace="shop")
        await world.operations.lift(first, **WHO)

        assert is_banned(world)
        assert not is_banned(world, namespace="pay")

    play(engine, story)


def test_the_refusal_names_who_banned_and_why(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        name = await ban(world, HOUR, node="node-1")
        with pytest.raises(IdentityForbidden, match=f"until .* by uid:0: INC-7 .ban {name}.") as e:
            world.state.check_caller(caller(world.clock))
        assert "INC-7" not in e.value.public_message

    play(engine, story)


def test_a_revoked_serial_is_refused_until_it_ends(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        issue(engine, intent("a1", world.clock), intent("a2", world.clock))
        await world.operations.revoke(Selector(serial="a1"), GOOD, **WHO)
        world.state.check_serial("a2")
        with pytest.raises(ProofRefused, match="serial a1 was revoked at") as refused:
            world.state.check_serial("a1")
        assert refused.value.reason == "revoked"
        assert world.state.digests() == {ORDERS: {fingerprint("a1")}}

        world.clock.advance(HOUR + KEPT_AFTER_END)
        await world.state.load()
        assert (world.revoked(), dict(world.state.of_authority(AUTHORITY))) == (set(), {})
        assert world.state.digests() == {}

    play(engine, story)


def test_a_clock_that_was_set_forward_and_back_forgets_nothing(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        issue(engine, intent("a1", world.clock))
        await world.operations.revoke(Selector(serial="a1"), GOOD, **WHO)
        await ban(world, HOUR, node="node-1")
        world.clock.jump(timedelta(days=1))
        await world.state.load()
        world.clock.jump(-timedelta(days=1))
        await world.state.load()

        assert world.revoked() == {"a1"}
        assert is_banned(world)

    play(engine, story)


def test_whoever_asked_hears_of_news_and_only_of_news(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        heard: list[set[str]] = []
        world.state.subscribe(lambda: heard.append(world.revoked()))
        issue(engine, intent("a1", world.clock))
        await world.operations.revoke(Selector(serial="a1"), GOOD, **WHO)
        await world.state.load()
        name = await ban(world, node="x")
        await world.operations.lift(name, **WHO)

        assert heard == [{"a1"}] * 3

    play(engine, story)


def test_two_replicas_know_the_same(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        async with revoking(engine) as other:
            issue(engine, *(intent(f"a{n}", world.clock) for n in (1, 2, 3)))
            for serial, by in (("a1", world), ("a2", other)):
                await by.operations.revoke(Selector(serial=serial), Reason.certificateHold, **WHO)
            name = await ban(other, node="node-1")
            assert (world.revoked(), is_banned(world)) == ({"a1"}, False)
            await world.state.load()
            assert (world.revoked(), is_banned(world)) == ({"a1", "a2"}, True)
            assert world.state.live() == other.state.live()

            await world.operations.release("a2", **WHO)
            await world.operations.lift(name, **WHO)
            await other.state.load()
            assert (other.revoked(), is_banned(other)) == ({"a1"}, False)
            assert world.state.revision == other.state.revision

    play(engine, story)


def test_a_replica_hears_of_it_without_being_told(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        async with revoking(engine) as other:
            feed = ChangeFeed(engine)
            feed.subscribe(REVOCATIONS_CHANGED, other.state.heed)
            loops = [asyncio.create_task(feed.run()), asyncio.create_task(other.state.run())]
            try:
                issue(engine, intent("a1", world.clock))
                await world.operations.revoke(Selector(serial="a1"), GOOD, **WHO)
                await until(lambda: other.revoked() == {"a1"}, within_seconds=4)
                await ban(world, node="node-1")
                await until(lambda: is_banned(other), within_seconds=4)
            finally:
                for loop in loops:
                    loop.cancel()
                await asyncio.gather(*loops, return_exceptions=True)

    play(engine, story)


async def until(condition: Callable[[], bool], *, within_seconds: float) -> None:
    deadline = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def test_a_process_that_starts_knows_everything_at_once(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        issue(engine, *(intent(f"a{n}", world.clock) for n in (1, 2, 3)))
        await world.operations.revoke(Selector(serial="a1"), GOOD, **WHO)
        await world.operations.revoke(Selector(serial="a2"), Reason.certificateHold, **WHO)
        await world.operations.release("a2", **WHO)
        await ban(world, node="node-1")
        async with revoking(engine) as fresh:
            assert fresh.state.live() == world.state.live()
            assert is_banned(fresh)

    play(engine, story)


@pytest.fixture
def away(server: Postgresql) -> Iterator[sa.Engine]:
    """A database that the test stops."""
    engine = open_engine(server.url)
    migrate(engine)
    yield engine
    engine.dispose()
    if server.process is None:
        server.start()


def test_what_is_known_stays_while_the_database_is_away(
    server: Postgresql, away: sa.Engine
) -> None:
    async def story(world: World) -> None:
        issue(away, intent("aa1", world.clock), intent("aa2", world.clock))
        await world.operations.revoke(Selector(serial="aa1"), GOOD, **WHO)
        await ban(world, node="node-1")
        await asyncio.to_thread(server.stop)
        with pytest.raises(StoreUnavailable):
            await world.state.load()
        for refused in (
            world.operations.revoke(Selector(serial="aa2"), GOOD, **WHO),
            world.operations.rehearse(Selector(node="node-1"), GOOD),
            world.operations.ban(Selector(node="x"), BanRequest(), **WHO),
            world.operations.release("aa1", **WHO),
            world.operations.resume(),
        ):
            with pytest.raises(StoreUnavailable):
                await refused
        assert ("aa1" in world.revoked(), is_banned(world)) == (True, True)

        await asyncio.to_thread(server.start)
        await world.operations.revoke(Selector(serial="aa2"), GOOD, **WHO)
        assert {"aa1", "aa2"} <= world.revoked()

    play(away, story)
