"""The months of the log in PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.log import Log
from audit.retention.partitions import DEFAULT, make_partitions, months, name_of, partitions
from audit.verify import verify
from meshca.database import open_engine
from meshca.errors import StoreUnavailable
from tests.audit.retention.world import NOW, append, empty_database, entry
from tests.stores import Postgresql

LATER = datetime(2027, 3, 5, tzinfo=UTC)


def held(engine: sa.Engine) -> dict[str, int]:
    """Return how many entries each partition holds, if any."""
    query = "SELECT tableoid::regclass::text, count(*) FROM audit_entries GROUP BY 1"
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.exec_driver_sql(query)}


@pytest.mark.parametrize(
    ("now", "names"),
    [
        (datetime(2026, 11, 1, tzinfo=UTC), ["2026_11", "2026_12", "2027_01"]),
        (datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC), ["2026_12", "2027_01", "2027_02"]),
    ],
)
def test_this_month_and_the_next_two(now: datetime, names: list[str]) -> None:
    assert [name_of(month) for month in months(now)] == [f"audit_entries_{n}" for n in names]


def test_sqlite_has_none(engine: sa.Engine) -> None:
    if engine.dialect.name == "sqlite":
        assert make_partitions(engine, NOW) == partitions(engine) == []


@pytest.fixture
def database(server: Postgresql, tmp_path: Path) -> Iterator[sa.Engine]:
    with empty_database("postgresql", tmp_path, server) as engine:
        yield engine


def test_they_are_made_once_and_entries_go_into_their_month(database: sa.Engine) -> None:
    names = [name_of(month) for month in months(NOW)]
    assert make_partitions(database, NOW) == names
    assert make_partitions(database, NOW) == []
    assert partitions(database) == names
    append(database, entry(1, time=NOW), entry(2, time=datetime(2027, 1, 31, tzinfo=UTC)))
    assert held(database) == {names[0]: 1, names[2]: 1}
    verify(database)


def test_a_clock_that_jumps_is_caught_and_its_month_put_in_order_later(
    database: sa.Engine,
) -> None:
    make_partitions(database, NOW)
    append(database, entry(1, time=LATER), entry(2, time=NOW))
    assert held(database)[DEFAULT] == 1
    root = Log(database).head().root
    make_partitions(database, LATER)
    assert held(database) == {name_of(LATER): 1, name_of(NOW): 1}
    assert verify(database).root == root


def test_who_reads_for_long_puts_it_off_and_is_not_waited_for(database: sa.Engine) -> None:
    append(database, entry(1, time=LATER))
    with database.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM audit_entries")
        with pytest.raises(StoreUnavailable, match=r"2026_11 cannot be made now: .*lock timeout"):
            make_partitions(database, NOW)
    assert make_partitions(database, NOW)


def test_replicas_that_start_together_make_them_once(
    database: sa.Engine, server: Postgresql
) -> None:
    other = open_engine(server.url)
    try:
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda engine: make_partitions(engine, NOW), (database, other)))
    finally:
        other.dispose()
    assert {name for names in made for name in names} == set(partitions(database))
    assert len(partitions(database)) == 3
