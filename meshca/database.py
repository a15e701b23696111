"""The database: engines, migrations, and the one writer that commits in groups.

Rules. Reads use `engine.connect()`. Every write goes through `GroupWriter`: callers hand it
records and wait for the commit that holds them. Which table a record belongs to is the business of
the `Sink` registered for its type, so this file knows no table.

Groups are collected on the event loop and written by one thread, a transaction a group. A group
holds everything that was handed in while the last commit ran. When the last group was a crowd, the
next one waits up to GROUP_WINDOW_SECONDS for company: a commit costs as much as ten records. What
nobody waits for (`enqueue`, `note`) travels with the next group, or alone after DEFERRED_SECONDS;
`on_lost` is told of what the database did not take.

SQLite runs in WAL mode with synchronous=FULL: a commit that returned survives power loss.
"""

import asyncio
import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType, TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from meshca.clock import Clock
from meshca.errors import MeshcaError, Overloaded, StoreUnavailable
from meshca.logs import get_logger
from meshca.metrics import Metrics

metadata = sa.MetaData()

MAXIMUM_GROUP = 256
MAXIMUM_PENDING = 20_000
GROUP_WINDOW_SECONDS = 0.002
DEFERRED_SECONDS = 0.05
_CROWD = 4
_ROWS_PER_STATEMENT = (64, 16, 4, 1)
_BUSY_TIMEOUT_MS = 5_000

NO_LONGER: Final[Mapping[str, int]] = MappingProxyType(
    {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
    }
)
"""What bounds a call when a PostgreSQL server, or the way to it, is gone without a word."""

_T = TypeVar("_T")
log = get_logger("database")


def _no_lock(_connection: sa.Connection) -> None:
    """Take no lock first."""


class Sink(Protocol):
    """Writes all records of one type that share a transaction.

    One may have `first`, a function of the connection: it takes locks, and is called before any
    sink of the transaction writes, so that transactions take these before all others.
    """

    def write(self, connection: sa.Connection, records: Sequence[Any]) -> None:
        """Write `records` in their order; raise to roll the transaction back."""
        ...


def open_engine(url: str) -> sa.Engine:
    """Return an engine for `url` (`sqlite:///...` or `postgresql+psycopg://...`).

    A PostgreSQL server that is silent is given up as `NO_LONGER` says, or the URL's query. Raises
    StoreUnavailable, naming the database, when it cannot be opened.
    """
    engine = sa.create_engine(
        url, pool_pre_ping=not url.startswith("sqlite"), connect_args=_connecting(url)
    )
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")
    except sa.exc.SQLAlchemyError as error:
        engine.dispose()
        raise StoreUnavailable(f"cannot open {describe(url)}: {cause(error)}") from error
    return engine


def _connecting(url: str) -> dict[str, Any]:
    """Return what a connection is made with."""
    if not url.startswith("postgresql"):
        return {}
    said = make_url(url).query
    patience = {key: value for key, value in NO_LONGER.items() if key not in said}
    return {**patience, "cursor_factory": _binary_cursor}


def _binary_cursor(connection: Any, **options: Any) -> Any:
    """Return a cursor that asks for values in binary: as text, bytes take five times as long.

    So one call is one statement, and SQLAlchemy cannot read the schema of PostgreSQL's catalogue
    (its lists of numbers come as bytes): `inspect` tells names, and nothing else.
    """
    import psycopg

    cursor = psycopg.Cursor(connection, **options)
    cursor.format = psycopg.pq.Format.BINARY
    return cursor


@contextlib.contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a connection to read with; raises StoreUnavailable if the database is away."""
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise StoreUnavailable(f"the database does not answer: {cause(error)}") from error


def describe(url: str) -> str:
    """Return `url` without its password, for messages."""
    return make_url(url).render_as_string(hide_password=True)


def cause(error: BaseException) -> str:
    """Return what the database itself says of an error, in a line."""
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


def bulk_insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
    """Insert `rows` (values in the order of `insert_columns(table)`), many to a statement.

    One multi-row statement costs a quarter of an executemany, which gives up and retakes the GIL
    at each row.
    """
    placeholder = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    for chunk in chunks(rows):
        statement = _insert_statement(table, len(chunk), placeholder)
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(chunk)))


def chunks(rows: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield `rows` in pieces of a few sizes only, so that drivers keep each statement prepared."""
    start = 0
    for size in _ROWS_PER_STATEMENT:
        while len(rows) - start >= size:
            yield rows[start : start + size]
            start += size


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


_Group = list[_Submission]


@dataclass(slots=True)
class GroupWriter:
    """The process's only writer: `async with` it, then `await submit(...)`.

    `sinks` maps each record type to its table's Sink; within a transaction they run in the
    mapping's order. Everything but the writing itself happens on the event loop.
    """

    engine: sa.Engine
    sinks: Mapping[type, Sink]
    clock: Clock
    metrics: Metrics
    maximum_pending: int = MAXIMUM_PENDING
    on_lost: Callable[[Sequence[Any]], None] = lambda _records: None
    _groups: "queue.SimpleQueue[_Group | None]" = field(default_factory=queue.SimpleQueue)
    _waiting: _Group = field(default_factory=list)
    _pending: int = 0
    _is_writing: bool = False
    _is_crowded: bool = False
    _alarm: asyncio.TimerHandle | None = None
    _alarm_is_urgent: bool = False
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
        thread, self._thread = self._thread, None
        if thread is not None:
            while self._waiting:
                self._hand_over()
            self._groups.put(None)
            await asyncio.to_thread(thread.join)

    async def submit(self, *records: Any) -> None:
        """Write `records` in one transaction and return once it is committed.

        Raises StoreUnavailable when the database refuses them (nothing of `records` is then
        stored) and Overloaded when too many submissions already wait.
        """
        assert self._loop is not None, "the writer is not running"  # noqa: S101  # a programmer's error
        done = self._loop.create_future()
        self._admit(_Submission(records, done))
        await done

    def enqueue(self, *records: Any) -> None:
        """Write `records` with one of the next groups; of a failure only `on_lost` is told.

        Raises Overloaded when too many submissions already wait, and StoreUnavailable after the
        end.
        """
        self._admit(_Submission(records, None))

    def note(self, *records: Any) -> None:
        """Do as `enqueue` does, and tell `on_lost` of what cannot be; never raises."""
        try:
            self.enqueue(*records)
        except (Overloaded, StoreUnavailable) as error:
            log.warning("not_recorded", error=str(error))
            self.on_lost(records)

    def _admit(self, submission: _Submission) -> None:
        for record in submission.records:
            if type(record) not in self.sinks:  # a programmer's error, and a record lost silently
                raise TypeError(f"no sink writes a {type(record).__name__}")
        if self._thread is None:
            raise StoreUnavailable("the writer has stopped")
        if self._pending >= self.maximum_pending:
            raise Overloaded(f"{self._pending} writes already wait for their commit")
        self._pending += 1
        self._waiting.append(submission)
        if not self._is_writing:
            self._schedule(is_urgent=submission.done is not None)

    def _schedule(self, *, is_urgent: bool) -> None:
        """Hand the next group over when it is full, or when its window ends."""
        if len(self._waiting) >= MAXIMUM_GROUP:
            self._hand_over()
        elif self._alarm is None or (is_urgent and not self._alarm_is_urgent):
            self._silence()
            delay = (
                (GROUP_WINDOW_SECONDS if self._is_crowded else 0.0)
                if is_urgent
                else DEFERRED_SECONDS
            )
            assert self._loop is not None  # noqa: S101  # set before anything is admitted
            self._alarm = self._loop.call_later(delay, self._hand_over)
            self._alarm_is_urgent = is_urgent

    def _silence(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _hand_over(self) -> None:
        """Give the thread its next group."""
        self._silence()
        group, self._waiting = self._waiting[:MAXIMUM_GROUP], self._waiting[MAXIMUM_GROUP:]
        self._is_writing = True
        self.metrics.pending_writes.set(self._pending)
        self._groups.put(group)

    def _resolve(self, group: _Group, errors: list[BaseException | None]) -> None:
        """Tell those who wait, on the event loop, and begin the next group."""
        self._pending -= len(group)
        self.metrics.pending_writes.set(self._pending)
        waiters = 0
        for submission, error in zip(group, errors, strict=True):
            done = submission.done
            if done is None:
                if error is not None:
                    self.on_lost(submission.records)
                continue
            waiters += 1
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
        self._is_crowded = waiters >= _CROWD
        self._is_writing = False
        if self._waiting:
            self._schedule(is_urgent=any(s.done is not None for s in self._waiting))

    def _run(self) -> None:
        """Write groups until told to stop: the thread."""
        with contextlib.ExitStack() as stack:
            connection: sa.Connection | None = None
            while (group := self._groups.get()) is not None:
                if connection is None or connection.invalidated or connection.closed:
                    connection = self._connect(stack)
                errors = self._write_group(connection, group)
                assert self._loop is not None  # noqa: S101  # set before the thread starts
                with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
                    self._loop.call_soon_threadsafe(self._resolve, group, errors)

    def _connect(self, stack: contextlib.ExitStack) -> sa.Connection | None:
        try:
            connection = self.engine.connect().execution_options(meshca_writes=True)
        except sa.exc.SQLAlchemyError as error:
            log.error("database_unreachable", error=cause(error))
            return None
        return stack.enter_context(connection)

    def _write_group(
        self, connection: sa.Connection | None, group: _Group
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

    def _transaction(self, connection: sa.Connection, group: _Group) -> MeshcaError | None:
        try:
            with connection.begin():
                if not any(submission.records for submission in group):
                    connection.exec_driver_sql("SELECT 1")  # somebody asks whether it answers
                given = {type(record) for submission in group for record in submission.records}
                sinks = [(kind, sink) for kind, sink in self.sinks.items() if kind in given]
                for lock in {getattr(sink, "first", _no_lock) for _, sink in sinks}:
                    lock(connection)
                for kind, sink in sinks:
                    sink.write(connection, [r for s in group for r in s.records if type(r) is kind])
        except MeshcaError as error:  # a sink says why, in its own words
            return error
        except Exception as error:  # noqa: BLE001  # the writer must outlive any record; each caller gets the error
            log.error("write_failed", error=cause(error), submissions=len(group))
            failure = StoreUnavailable(f"the database refused the record: {cause(error)}")
            failure.__cause__ = error
            return failure
        return None
