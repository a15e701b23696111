"""The database: engines, migrations, and the one writer that commits in groups.

Rules. Reads use `engine.connect()`. Every write goes through `GroupWriter`: callers hand it
records and wait for the commit that holds them; one thread writes everything that arrived while
the last commit ran as one transaction. Which table a record belongs to is the business of the
`Sink` registered for its type, so this file knows no table.

SQLite runs in WAL mode with synchronous=FULL: a commit that returned survives power loss.
"""

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url

from meshca.clock import Clock
from meshca.errors import Overloaded, StoreUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics

metadata = sa.MetaData()

MAXIMUM_GROUP = 64
MAXIMUM_PENDING = 20_000
_ROWS_PER_STATEMENT = 64
_BUSY_TIMEOUT_MS = 5_000

log = get_logger("database")


class Sink(Protocol):
    """Writes all records of one type that share a transaction."""

    def write(self, connection: sa.Connection, records: Sequence[Any]) -> None:
        """Write `records` in their order; raise to roll the transaction back."""
        ...


def open_engine(url: str) -> sa.Engine:
    """Return an engine for `url` (`sqlite:///...` or `postgresql+psycopg://...`).

    Raises StoreUnavailable, naming the database, when it cannot be opened.
    """
    engine = sa.create_engine(url, pool_pre_ping=not url.startswith("sqlite"))
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise StoreUnavailable(f"cannot open {describe(url)}: {_cause(error)}") from error
    return engine


def describe(url: str) -> str:
    """Return `url` without its password, for messages."""
    return make_url(url).render_as_string(hide_password=True)


def _cause(error: BaseException) -> str:
    original = getattr(error, "orig", None)
    return str(original or error).splitlines()[0]


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={_BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes the lock before it reads the log's head: no upgrade can fail half way.
    writes = connection.get_execution_options().get("meshca_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the version this program was written for.

    Raises StoreUnavailable when the database is read-only, full, or newer than this program.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    try:
        with engine.connect().execution_options(meshca_writes=True) as connection:
            with connection.begin():
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    except (sa.exc.SQLAlchemyError, command.util.CommandError) as error:
        raise StoreUnavailable(
            f"cannot migrate {describe(str(engine.url))}: {_cause(error)}"
        ) from error


def bulk_insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert `rows` (values in the order of `insert_columns(table)`), many to a statement.

    One multi-row statement costs a quarter of an executemany, which gives up and retakes the GIL
    at each row.
    """
    placeholder = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    for start in range(0, len(rows), _ROWS_PER_STATEMENT):
        chunk = rows[start : start + _ROWS_PER_STATEMENT]
        statement = _insert_statement(table, len(chunk), placeholder)
        connection.exec_driver_sql(statement, tuple(value for row in chunk for value in row))


def insert_columns(table: sa.Table) -> list[str]:
    """Return the columns that `bulk_insert` fills: all but an autoincrementing primary key."""
    return [column.name for column in table.columns if column is not table.autoincrement_column]


@functools.lru_cache(maxsize=512)
def _insert_statement(table: sa.Table, rows: int, placeholder: str) -> str:
    columns = insert_columns(table)
    row = "(" + ",".join([placeholder] * len(columns)) + ")"
    names = ",".join(columns)
    return f"INSERT INTO {table.name} ({names}) VALUES {','.join([row] * rows)}"  # noqa: S608  # names come from our own schema


@dataclass(slots=True, eq=False)
class _Submission:
    records: tuple[Any, ...]
    done: "asyncio.Future[None] | None"


@dataclass(slots=True)
class GroupWriter:
    """The process's only writer: `async with` it, then `await submit(...)`.

    `sinks` maps each record type to its table's Sink; within a transaction they run in the
    mapping's order.
    """

    engine: sa.Engine
    sinks: Mapping[type, Sink]
    clock: Clock
    metrics: Metrics
    maximum_pending: int = MAXIMUM_PENDING
    _queue: "queue.SimpleQueue[_Submission | None]" = field(default_factory=queue.SimpleQueue)
    _pending: int = 0
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="meshca-writer", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Commit what is pending, then stop the thread."""
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def submit(self, *records: Any) -> None:
        """Write `records` in one transaction and return once it is committed.

        Raises StoreUnavailable when the database refuses them (nothing of `records` is then
        stored) and Overloaded when too many submissions already wait.
        """
        assert self._loop is not None, "the writer is not running"  # noqa: S101  # a programmer's error
        done = self._loop.create_future()
        self._enqueue(_Submission(records, done))
        await done

    def enqueue(self, *records: Any) -> None:
        """Write `records` with one of the next groups; a failure is logged and counted only.

        Raises Overloaded when too many submissions already wait.
        """
        self._enqueue(_Submission(records, None))

    def _enqueue(self, submission: _Submission) -> None:
        if self._thread is None:
            raise StoreUnavailable("the writer has stopped")
        if self._pending >= self.maximum_pending:
            raise Overloaded(f"{self._pending} writes already wait for their commit")
        self._pending += 1
        self.metrics.pending_writes.set(self._pending)
        self._queue.put(submission)

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            connection: sa.Connection | None = None
            while (first := self._queue.get()) is not None:
                group, last = self._collect(first)
                if connection is None or connection.invalidated or connection.closed:
                    connection = self._connect(stack)
                self._finish(group, self._write_group(connection, group))
                if last:
                    return

    def _connect(self, stack: contextlib.ExitStack) -> sa.Connection | None:
        try:
            connection = self.engine.connect().execution_options(meshca_writes=True)
        except sa.exc.SQLAlchemyError as error:
            log.error("database_unreachable", error=_cause(error))
            return None
        return stack.enter_context(connection)

    def _collect(self, first: _Submission) -> tuple[list[_Submission], bool]:
        """Return everything that has arrived, up to a group, and whether to stop after it."""
        group = [first]
        while len(group) < MAXIMUM_GROUP:
            try:
                submission = self._queue.get_nowait()
            except queue.Empty:
                break
            if submission is None:
                return group, True
            group.append(submission)
        return group, False

    def _write_group(
        self, connection: sa.Connection | None, group: list[_Submission]
    ) -> list[BaseException | None]:
        """Return, for each submission, None or the error that kept it out of the database."""
        if connection is None:
            return [StoreUnavailable("the database cannot be reached")] * len(group)
        started = self.clock.monotonic()
        error = self._transaction(connection, group)
        self.metrics.commit_seconds.observe(self.clock.monotonic() - started)
        self.metrics.commit_group_size.observe(len(group))
        if error is None or len(group) == 1:
            return [error] * len(group)
        # One bad record must not fail its neighbours: each alone, in order.
        return [self._transaction(connection, [submission]) for submission in group]

    def _transaction(
        self, connection: sa.Connection, group: list[_Submission]
    ) -> StoreUnavailable | None:
        try:
            with connection.begin():
                for kind, sink in self.sinks.items():
                    records = [r for s in group for r in s.records if type(r) is kind]
                    if records:
                        sink.write(connection, records)
        except Exception as error:  # noqa: BLE001  # the writer must outlive any record; each caller gets the error
            log.error("write_failed", error=_cause(error), submissions=len(group))
            failure = StoreUnavailable(f"the database refused the record: {_cause(error)}")
            failure.__cause__ = error
            return failure
        return None

    def _finish(self, group: list[_Submission], errors: list[BaseException | None]) -> None:
        assert self._loop is not None  # noqa: S101  # set before the thread starts
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            self._loop.call_soon_threadsafe(self._resolve, group, errors)

    def _resolve(self, group: list[_Submission], errors: list[BaseException | None]) -> None:
        self._pending -= len(group)
        self.metrics.pending_writes.set(self._pending)
        for submission, error in zip(group, errors, strict=True):
            if submission.done is None or submission.done.done():
                continue
            if error is None:
                submission.done.set_result(None)
            else:
                submission.done.set_exception(error)
