"""A log with old entries, and what redacts them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from audit.entry import Entry
from audit.log import EntrySink, Log
from audit.retention.hold_operations import LegalHolds
from audit.retention.loop import LOOK_SECONDS, Retention
from audit.retention.rules import Rules
from audit.tree import audit_entries
from meshca.database import GroupWriter, open_engine
from meshca.metrics import Metrics
from meshca.name_locks import open_name_locks
from meshca.schema import migrate
from tests.fakes import FakeClock
from tests.stores import Postgresql, sqlite_engine, writer_of

NOW = FakeClock().now()
OLD = NOW - timedelta(days=100)
RULES = Rules(kinds={"read": timedelta(days=90), "issuance": timedelta(days=90)})
TABLES = (
    "audit_entries",
    "audit_nodes",
    "audit_head",
    "audit_holds",
    "audit_checkpoints",
    "audit_log_keys",
    "audit_segments",
    "audit_postings",
)


@contextmanager
def empty_database(kind: str, directory: Path, server: Postgresql | None) -> Iterator[sa.Engine]:
    """Yield a migrated database whose log is empty."""
    if kind == "sqlite":
        with sqlite_engine(directory) as engine:
            yield engine
        return
    assert server is not None
    engine = open_engine(server.url)
    try:
        migrate(engine)
        clear(engine)
        yield engine
    finally:
        engine.dispose()


def clear(engine: sa.Engine) -> None:
    """Empty every table of the log, and take its months away."""
    with engine.begin() as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608  # our own names
        if engine.dialect.name == "postgresql":
            names = connection.exec_driver_sql(
                "SELECT relname FROM pg_class WHERE relname ~ '^audit_entries_[0-9_]+$'"
            )
            for (name,) in names.all():
                connection.exec_driver_sql(f"DROP TABLE {name}")


def entry(number: int = 1, **changes: Any) -> Entry:
    """Return a `read` of a hundred days ago."""
    values: dict[str, Any] = {
        "time": OLD + timedelta(seconds=number),
        "kind": "read",
        "outcome": "done",
        "actor": "uid:1000",
        "namespace": "shop",
        "reason": f"because of {number}",
    }
    return Entry(**{**values, **changes})


def append(engine: sa.Engine, *entries: Entry) -> None:
    """Append `entries` in one transaction."""
    writes = engine.connect().execution_options(meshca_writes=True)
    with writes as connection, connection.begin():
        EntrySink().append(connection, entries)


def issuance(number: int, not_after: datetime, **changes: Any) -> Entry:
    """Return the issuance of a certificate that ends then."""
    details = {"not_after": int(not_after.timestamp())}
    return entry(number, kind="issuance", serial=f"{number:x}", details=details, **changes)


def writer(engine: sa.Engine, clock: FakeClock) -> GroupWriter:
    """Return a writer that knows retention."""
    return writer_of(engine, clock=clock)


def retention(
    engine: sa.Engine,
    writer: GroupWriter,
    clock: FakeClock,
    rules: Rules = RULES,
    metrics: Metrics | None = None,
) -> Retention:
    """Return the loop's body."""
    return Retention(
        engine=engine,
        writer=writer,
        locks=open_name_locks(engine),
        clock=clock,
        metrics=metrics or Metrics(),
        rules=rules,
    )


async def redact(
    engine: sa.Engine, clock: FakeClock, rules: Rules = RULES, metrics: Metrics | None = None
) -> int:
    """Redact what is due, as a process does in its second hour."""
    async with writer(engine, clock) as running:
        loop = retention(engine, running, clock, rules, metrics)
        try:
            await loop.look()
            clock.advance(timedelta(seconds=LOOK_SECONDS))
            return await loop.look()
        finally:
            loop.locks.close()


def holds_of(engine: sa.Engine, writer: GroupWriter, clock: FakeClock) -> LegalHolds:
    """Return the operations of holds."""
    return LegalHolds(engine=engine, writer=writer, clock=clock)


def blank(engine: sa.Engine) -> list[int]:
    """Return the indexes of entries without a body."""
    return [stored.index for stored in Log(engine).entries() if stored.body is None]


def execute(engine: sa.Engine, statement: str, *values: Any) -> None:
    """Change the database as somebody with its password does."""
    with engine.begin() as connection:
        connection.exec_driver_sql(statement, values)


def rows(engine: sa.Engine) -> list[sa.Row[Any]]:
    """Return the rows of the log in order."""
    with engine.connect() as connection:
        return list(connection.execute(sa.select(audit_entries).order_by("leaf_index")))
