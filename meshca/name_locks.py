"""Names that one process holds at a time: a lock that ends with the process, whatever ended it.

On PostgreSQL an advisory lock of a session of our own, so that any machine may compete; on SQLite a
lock on a file beside the database. Neither needs a clock, nor anybody to clean up.

A connection that breaks frees its names, as does a machine that dies: PostgreSQL is told to notice
within half a minute. Who holds a name asks `hold` again and again, and so hears that it was lost.
A pooler between us and PostgreSQL must keep sessions whole (PgBouncer: session pooling).
"""

import contextlib
import fcntl
import os
import re
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol

import sqlalchemy as sa

from meshca.database import NO_LONGER, reading
from meshca.errors import StoreUnavailable

_CLASS: Final = 0x6D657368
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,126}")
_NOTICE_A_DEAD_PEER: Final = (
    "SET tcp_keepalives_idle = 10",
    "SET tcp_keepalives_interval = 5",
    "SET tcp_keepalives_count = 3",
)

_NO_LONGER: Final = {**NO_LONGER, "options": "-c statement_timeout=10000"}


class NameLocks(Protocol):
    """Who may call itself by a name; every method may block, and is safe in any thread."""

    def hold(self, name: str) -> bool:
        """Take `name`, or keep it; False while another holds it. Raises StoreUnavailable."""
        ...

    def is_held(self, name: str) -> bool:
        """Return whether anybody holds `name`; raises StoreUnavailable."""
        ...

    def close(self) -> None:
        """Let every name go."""
        ...


def open_name_locks(engine: sa.Engine) -> NameLocks:
    """Return the locks that everybody who uses `engine`'s database competes for."""
    if engine.dialect.name == "postgresql":
        return AdvisoryLocks(engine)
    return FileLocks(Path(_sqlite_path(engine)))


def _sqlite_path(engine: sa.Engine) -> str:
    with reading(engine) as connection:
        files = {row.name: row.file for row in connection.exec_driver_sql("PRAGMA database_list")}
    path = files["main"]
    if not path:
        raise StoreUnavailable("a database in memory has no locks: use a file")
    return str(path)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not the name of a lock: {name!r}")
    return name


@dataclass(slots=True)
class FileLocks:
    """Locks on files named after the database: `<database>.<name>.lock`; see flock(2)."""

    database: Path
    _held: dict[str, int] = field(default_factory=dict)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, name: str) -> bool:
        """Take `name`, or keep it; False while another holds it."""
        with self._mutex:
            if name in self._held:
                return True
            descriptor = self._lock(name)
            if descriptor is None:
                return False
            self._held[name] = descriptor
            return True

    def is_held(self, name: str) -> bool:
        """Return whether anybody holds `name`."""
        with self._mutex:
            if name in self._held:
                return True
            descriptor = self._lock(name)
            if descriptor is not None:
                os.close(descriptor)
            return descriptor is None

    def close(self) -> None:
        """Let every name go."""
        with self._mutex:
            for descriptor in self._held.values():
                os.close(descriptor)
            self._held.clear()

    def _lock(self, name: str) -> int | None:
        """Return a descriptor that holds the lock, or None when another does."""
        path = self.database.with_name(f"{self.database.name}.{_checked(name)}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"cannot lock {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor


@dataclass(slots=True)
class AdvisoryLocks:
    """Advisory locks of one PostgreSQL session that does nothing else."""

    engine: sa.Engine
    _session: sa.Connection | None = None
    _held: set[str] = field(default_factory=set)
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def hold(self, name: str) -> bool:
        """Take `name`, or keep it; False while another holds it. Raises StoreUnavailable."""
        key = _key(_checked(name))
        with self._mutex:
            if name in self._held and self._ask(sa.text("SELECT true")):
                return True
            query = sa.text("SELECT pg_try_advisory_lock(:class, :key)")
            if not self._ask(query.bindparams(**{"class": _CLASS, "key": key})):
                return False
            self._held.add(name)
            return True

    def is_held(self, name: str) -> bool:
        """Return whether anybody holds `name`; raises StoreUnavailable."""
        query = sa.text(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND classid = :class AND objid = :key AND objsubid = 2 AND database ="
            " (SELECT oid FROM pg_database WHERE datname = current_database()))"
        )
        # pg_locks shows the keys as they are stored: without a sign.
        key = _key(_checked(name)) & 0xFFFFFFFF
        with self._mutex:
            return self._ask(query.bindparams(**{"class": _CLASS, "key": key}))

    def close(self) -> None:
        """Let every name go."""
        with self._mutex:
            self._end_session()

    def _ask(self, query: sa.TextClause) -> bool:
        """Return the answer to a question of yes or no; a session that broke holds nothing."""
        try:
            if self._session is None:
                self._session = self._open()
            return bool(self._session.execute(query).scalar_one())
        except sa.exc.SQLAlchemyError as error:
            self._end_session()
            raise StoreUnavailable(
                f"the database does not answer: {str(error).splitlines()[0]}"
            ) from error

    def _open(self) -> sa.Connection:
        """Return a session of our own: the pool must neither count it nor give it to others."""
        alone = sa.create_engine(self.engine.url, poolclass=sa.NullPool, connect_args=_NO_LONGER)
        session = alone.connect().execution_options(isolation_level="AUTOCOMMIT")
        for statement in _NOTICE_A_DEAD_PEER:
            session.exec_driver_sql(statement)
        return session

    def _end_session(self) -> None:
        session, self._session = self._session, None
        self._held.clear()
        if session is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                session.close()


def _key(name: str) -> int:
    """Return the lock's number: a signed 32-bit integer."""
    return int.from_bytes(sha256(f"meshca {name}".encode()).digest()[:4], "big", signed=True)
