"""What one process announces, another hears of: on SQLite and PostgreSQL, also after an outage."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from meshca.change_feed import ChangeFeed, announce
from meshca.database import open_engine
from meshca.schema import migrate
from tests.stores import Postgresql, postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both databases, one after the other."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'meshca.db'}"
    return str(request.getfixturevalue("server").url)


def write(engine: sa.Engine, kind: str, *, commits: bool = True) -> None:
    """Announce as another process does."""
    with engine.execution_options(meshca_writes=True).connect() as connection:
        announce(connection, kind)
        if commits:
            connection.commit()


async def heard(event: asyncio.Event, *, within_seconds: float) -> bool:
    """Return whether `event` is set in time, and clear it."""
    try:
        async with asyncio.timeout(within_seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True


def test_a_committed_change_is_heard_by_those_who_asked_for_its_kind(url: str) -> None:
    one, two = open_engine(url), open_engine(url)
    migrate(one)

    async def story() -> None:
        feed = ChangeFeed(two)
        wanted, others = asyncio.Event(), asyncio.Event()
        feed.subscribe("authorities", wanted.set)
        feed.subscribe("policies", others.set)
        await asyncio.to_thread(write, one, "authorities")
        running = asyncio.create_task(feed.run())
        try:
            assert not await heard(wanted, within_seconds=0.6), "what was there at the start"
            await asyncio.to_thread(write, one, "authorities", commits=False)
            assert not await heard(wanted, within_seconds=0.6), "it was rolled back"
            for _ in range(3):
                await asyncio.to_thread(write, one, "authorities")
                assert await heard(wanted, within_seconds=4)
            assert not others.is_set()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
    one.dispose()
    two.dispose()


def test_postgresql_tells_it_without_being_asked(server: Postgresql) -> None:
    engine = open_engine(server.url)
    migrate(engine)

    async def story() -> None:
        feed, event = ChangeFeed(engine), asyncio.Event()
        feed.subscribe("authorities", event.set)
        running = asyncio.create_task(feed.run())
        try:
            await asyncio.to_thread(write, engine, "authorities")
            while not await heard(event, within_seconds=1):  # until it listens
                await asyncio.to_thread(write, engine, "authorities")
            took = []
            for _ in range(5):
                begun = time.monotonic()
                await asyncio.to_thread(write, engine, "authorities")
                assert await heard(event, within_seconds=4)
                took.append(time.monotonic() - begun)
            assert min(took) < 1, f"a look alone takes five seconds: {took}"
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
    engine.dispose()


def test_what_changed_while_the_database_was_away_is_heard_afterwards(server: Postgresql) -> None:
    engine, other = open_engine(server.url), open_engine(server.url)
    migrate(engine)

    async def story() -> None:
        feed, event = ChangeFeed(engine), asyncio.Event()
        feed.subscribe("authorities", event.set)
        running = asyncio.create_task(feed.run())
        try:
            while not await heard(event, within_seconds=1):
                await asyncio.to_thread(write, other, "authorities")
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(write, other, "authorities")
            assert await heard(event, within_seconds=10)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    asyncio.run(story())
    engine.dispose()
    other.dispose()
