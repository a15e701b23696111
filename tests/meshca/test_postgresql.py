"""The same rules on PostgreSQL: poison, one chain from several writers, a server that goes."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from audit.query import Query, find
from audit.verify import verify
from meshca.database import NO_LONGER, open_engine
from meshca.errors import StoreUnavailable
from meshca.schema import migrate
from tests.meshca.test_database import entries, entry, intent, serials
from tests.stores import Postgresql, postgresql, writer_of


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    with postgresql() as server:
        yield server


@pytest.fixture
def engine(server: Postgresql) -> Iterator[sa.Engine]:
    engine = open_engine(server.url)
    try:
        migrate(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                "TRUNCATE certificates, audit_entries, audit_nodes, audit_head"
            )
        yield engine
    finally:
        engine.dispose()


def test_values_come_in_binary_and_not_as_text(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        asked = connection.exec_driver_sql("SELECT '\\x00ff'::bytea, 7::bigint, 'ü'::text, null")
        result = asked.cursor.pgresult
        assert {result.fformat(column) for column in range(4)} == {1}
        assert result.get_value(0, 0) == b"\x00\xff"
        assert asked.one() == (b"\x00\xff", 7, "ü", None)


def test_a_server_that_is_silent_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(StoreUnavailable, match=r"cannot open .* timeout"):
            open_engine(f"postgresql+psycopg://meshca@127.0.0.1:{port}/meshca")


def test_a_connection_knows_how_long_to_wait_unless_the_url_says_otherwise(
    server: Postgresql,
) -> None:
    for url, expected in (
        (server.url, NO_LONGER),
        (f"{server.url}&connect_timeout=7", {**NO_LONGER, "connect_timeout": 7}),
    ):
        engine = open_engine(url)
        with engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            used = driver.info.get_parameters()
        engine.dispose()
        assert {key: int(used[key]) for key in NO_LONGER} == expected


def test_several_writers_make_one_chain(engine: sa.Engine, server: Postgresql) -> None:
    async def story(other: sa.Engine) -> None:
        async with writer_of(engine) as one, writer_of(other) as two:
            work = [w.submit(entry(f"{n:x}")) for n in range(200) for w in (one, two)]
            await asyncio.gather(*work)

    other = open_engine(server.url)
    try:
        asyncio.run(story(other))
    finally:
        other.dispose()
    assert verify(engine).size == 400
    assert len(find(engine, Query(serial="c7"))) == 2


def test_a_poisoned_record_fails_alone(engine: sa.Engine) -> None:
    async def story() -> list[object]:
        async with writer_of(engine) as writer:
            work = [writer.submit(intent(s), entry(s)) for s in ("a", "b", "a", "c")]
            return list(await asyncio.gather(*work, return_exceptions=True))

    outcomes = asyncio.run(story())
    assert [type(outcome) for outcome in outcomes].count(StoreUnavailable) == 1
    assert serials(engine) == ["a", "b", "c"]
    assert entries(engine) == 3
    verify(engine)


def test_text_that_postgresql_cannot_hold_is_recorded_all_the_same(engine: sa.Engine) -> None:
    async def story() -> None:
        async with writer_of(engine) as writer:
            await writer.submit(entry("a\x00b\ud800"))

    asyncio.run(story())
    assert find(engine, Query())[0].body["serial"] == "a\ufffdb?"
    verify(engine)


def test_a_server_that_goes_and_comes_back_loses_only_what_was_refused(
    engine: sa.Engine, server: Postgresql
) -> None:
    async def story() -> None:
        async with writer_of(engine) as writer:
            await writer.submit(intent("a"), entry("a"))
            await asyncio.to_thread(server.stop)
            for serial in ("b", "c"):
                with pytest.raises(StoreUnavailable):
                    await writer.submit(intent(serial), entry(serial))
            await asyncio.to_thread(server.start)
            await writer.submit(intent("d"), entry("d"))

    asyncio.run(story())
    assert serials(engine) == ["a", "d"]
    assert verify(engine).size == 2
