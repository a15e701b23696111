"""Applied sets in the database."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from authz import store
from authz.store import AppliedSet, AppliedSetSink
from meshca.change_feed import ChangeFeed
from meshca.database import GroupWriter, Sink, open_engine
from meshca.errors import Conflict, NotFound, StoreUnavailable
from meshca.metrics import Metrics
from tests.fakes import FakeClock
from tests.stores import open_sqlite


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    return open_sqlite(tmp_path)


def applied(version: int) -> AppliedSet:
    return AppliedSet(version, FakeClock().now(), "uid:0", "because", f"# {version}\n")


def write(engine: sa.Engine, *records: AppliedSet) -> None:
    async def story() -> None:
        sinks: dict[type, Sink] = {AppliedSet: AppliedSetSink()}
        async with GroupWriter(engine, sinks, FakeClock(), Metrics()) as writer:
            for record in records:
                await writer.submit(record)

    asyncio.run(story())


def test_nothing_was_applied_at_first(engine: sa.Engine) -> None:
    assert store.latest(engine) is None
    assert store.latest_version(engine) == 0
    with pytest.raises(NotFound, match="version 1"):
        store.get(engine, 1)


def test_returns_what_was_written_the_newest_and_by_version(engine: sa.Engine) -> None:
    write(engine, applied(1), applied(2))
    assert store.latest(engine) == applied(2)
    assert store.latest_version(engine) == 2
    assert store.get(engine, 1) == applied(1)


def test_two_writers_of_one_version_collide(engine: sa.Engine) -> None:
    write(engine, applied(1))
    for version in (1, 3):
        with pytest.raises(Conflict, match="the applied set is version 1 by now"):
            write(engine, applied(version))
    assert store.latest(engine) == applied(1)


def test_tells_the_versions_the_newest_first(engine: sa.Engine) -> None:
    write(engine, applied(1), applied(2), applied(3))
    told = store.history(engine, limit=2)
    assert [(v.version, v.author, v.reason, v.characters) for v in told] == [
        (3, "uid:0", "because", 4),
        (2, "uid:0", "because", 4),
    ]
    assert [v.version for v in store.history(engine, limit=9, before=2)] == [1]


def test_a_new_version_is_announced(engine: sa.Engine) -> None:
    async def story() -> None:
        heard = asyncio.Event()
        feed = ChangeFeed(engine)
        feed.subscribe(store.POLICIES_CHANGED, heard.set)
        await feed.look()
        sinks: dict[type, Sink] = {AppliedSet: AppliedSetSink()}
        async with GroupWriter(engine, sinks, FakeClock(), Metrics()) as writer:
            await writer.submit(applied(1))
        await feed.look()
        assert heard.is_set()

    asyncio.run(story())


def test_a_database_without_the_table_is_unavailable(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'empty.db'}")
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        store.latest(engine)
