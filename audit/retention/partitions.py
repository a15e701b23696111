"""The months of the log in PostgreSQL: partitions by time, made before their month begins.

    audit_entries_2026_11   from the 1st of November, 00:00 UTC, to the 1st of December
    audit_entries_default   what no month takes: a clock that jumped

Rules. This month and the two after it are there, or are made. What the default partition caught of
a month moves there when its own is made: a clock that is right again finds its month in order.
Nobody waits for it: a lock that is not had in two seconds is left to the next hour.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from meshca.database import reading
from meshca.errors import StoreUnavailable
from meshca.logs import get_logger

AHEAD: Final = 2
MOST_MONTHS: Final = 240
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DEFAULT: Final = "audit_entries_default"
_NAME: Final = re.compile(r"audit_entries_(\d{4})_(\d{2})")

log = get_logger("audit")


def months(now: datetime, ahead: int = AHEAD) -> list[datetime]:
    """Return the beginnings of the month of `now` and of the `ahead` after it, in UTC."""
    now = now.astimezone(UTC)
    count = now.year * 12 + now.month - 1
    return [
        datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)
        for number in range(count, count + ahead + 1)
    ]


def name_of(month: datetime) -> str:
    """Return what the partition of `month` is called."""
    return f"audit_entries_{month:%Y_%m}"


def partitions(engine: sa.Engine) -> list[str]:
    """Return the names of the partitions of months that there are; none on SQLite."""
    if engine.dialect.name != "postgresql":
        return []
    query = (
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'audit_entries'::regclass ORDER BY c.relname"
    )
    with reading(engine) as connection:
        names = [str(row[0]) for row in connection.exec_driver_sql(query)]
    return [name for name in names if _NAME.fullmatch(name)]


def make_partitions(engine: sa.Engine, now: datetime) -> list[str]:
    """Make the partitions that are missing; return the names of those made.

    Raises StoreUnavailable when the database does not let us now.
    """
    if engine.dialect.name != "postgresql":
        return []
    there = set(partitions(engine))
    made = []
    for month in months(now):
        if name_of(month) not in there:
            _make_alone(engine, month)
            made.append(name_of(month))
            log.info("partition_made", name=name_of(month))
    return made


def make_month(connection: sa.Connection, time_us: int, made: set[str]) -> None:
    """Make the partition of the month of `time_us`, unless it is among `made` or they are too many.

    For who inserts many months at once; does nothing on SQLite.
    """
    if connection.dialect.name != "postgresql":
        return
    month = months(_EPOCH + timedelta(microseconds=time_us), 0)[0]
    if name_of(month) in made or len(made) >= MOST_MONTHS:
        return
    if not sa.inspect(connection).has_table(name_of(month)):
        _make(connection, month)
    made.add(name_of(month))


def _make_alone(engine: sa.Engine, month: datetime) -> None:
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
            _make(connection, month)
    except sa.exc.SQLAlchemyError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        message = f"the partition {name_of(month)} cannot be made now: {cause}"
        raise StoreUnavailable(message) from error


def _make(connection: sa.Connection, month: datetime) -> None:
    """Make one partition, with what the default one holds of its month."""
    name = name_of(month)
    start, stop = (_microseconds(moment) for moment in months(month, 1))
    bounds = f"time >= {start} AND time < {stop}"
    connection.exec_driver_sql(f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE")
    if connection.exec_driver_sql(f"SELECT to_regclass('{name}')").scalar() is not None:
        return  # another replica was faster
    for statement in (
        f"CREATE TABLE {name} (LIKE {DEFAULT} INCLUDING ALL)",
        f"WITH moved AS (DELETE FROM {DEFAULT} WHERE {bounds} RETURNING *)"  # noqa: S608  # our own names and numbers
        f" INSERT INTO {name} SELECT * FROM moved",
        f"ALTER TABLE audit_entries ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({stop})",
    ):
        connection.exec_driver_sql(statement)


def _microseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000
