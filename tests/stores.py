"""Real databases for tests: SQLite in a directory, and a throwaway PostgreSQL."""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from glob import glob
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from audit.anchors.store import ANCHOR_SINKS
from audit.checkpoints import CHECKPOINT_SINKS
from audit.entry import Entry
from audit.index.tables import INDEX_SINKS
from audit.log import EntrySink, Log
from audit.log_keys import LOG_KEY_SINKS
from audit.retention.sinks import RETENTION_SINKS
from audit.witness.store import WITNESS_SINKS
from authz.history import POLICY_HISTORY_SINKS
from authz.kubernetes.kept import KEPT_SINKS
from authz.records.sinks import DECISION_SINKS
from authz.staging.sinks import STAGING_SINKS
from authz.store import AppliedSet, AppliedSetSink
from ca.bundle_journal import NewBundle, NewBundleSink
from ca.federation.store import FEDERATION_SINKS
from ca.ocsp.colleagues_store import COLLEAGUES_SINKS
from ca.revocation.crl_store import CRL_SINKS
from ca.revocation.effects import EFFECT_SINKS
from ca.revocation.sinks import REVOCATION_SINKS
from ca.store import Intent, Planned, PlannedSink, Signed, SignedSink, insert
from meshca.database import GroupWriter, Sink, open_engine
from meshca.metrics import Metrics
from meshca.schema import migrate
from rotation.build import AUTHORITY_SINKS
from tests.fakes import FakeClock
from tests.real_parts import require, wait_until


class IntentSink:
    """Writes intents without the audit entry that goes with each: for tests of other things."""

    def write(self, connection: sa.Connection, records: Sequence[Intent]) -> None:
        """Insert one row an intent."""
        insert(connection, records, [None] * len(records))


SINKS: Mapping[type, Sink] = {
    Intent: IntentSink(),
    Planned: PlannedSink(EntrySink()),
    Signed: SignedSink(),
    AppliedSet: AppliedSetSink(),
    **KEPT_SINKS,
    **POLICY_HISTORY_SINKS,
    NewBundle: NewBundleSink(),
    **FEDERATION_SINKS,
    **AUTHORITY_SINKS,
    **REVOCATION_SINKS,
    **CRL_SINKS,
    **COLLEAGUES_SINKS,
    **EFFECT_SINKS,
    **STAGING_SINKS,
    **DECISION_SINKS,
    **CHECKPOINT_SINKS,
    **LOG_KEY_SINKS,
    **ANCHOR_SINKS,
    **WITNESS_SINKS,
    **RETENTION_SINKS,
    **INDEX_SINKS,
    Entry: EntrySink(),
}


Document = dict[str, Any]
_NUMBERS = count()


def documents(engine: sa.Engine) -> list[Document]:
    """Return the bodies of the audit log's entries, oldest first."""
    return [stored.document() or {} for stored in Log(engine).entries()]


@cache
def _migrated() -> bytes:
    """Return an empty SQLite database of today's schema: made once, and copied ever after."""
    with tempfile.TemporaryDirectory(prefix="meshca-sqlite-") as directory:
        engine = open_engine(f"sqlite:///{directory}/meshca.db")
        migrate(engine)
        engine.dispose()  # the last connection leaves no write-ahead log behind
        return (Path(directory) / "meshca.db").read_bytes()


def open_sqlite(directory: Path) -> sa.Engine:
    """Return the SQLite database of `directory`, migrated and empty if there was none."""
    path = directory / "meshca.db"
    if not path.exists():
        path.write_bytes(_migrated())
    return open_engine(f"sqlite:///{path}")


@contextmanager
def sqlite_engine(directory: Path) -> Iterator[sa.Engine]:
    """Yield the same, and dispose of it."""
    engine = open_sqlite(directory)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def postgresql_engine(server: "Postgresql") -> Iterator[sa.Engine]:
    """Yield a new, migrated database of `server`; others may use the server meanwhile."""
    name = f"test_{next(_NUMBERS)}"
    whole = open_engine(server.url)
    with whole.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    whole.dispose()
    engine = open_engine(server.url.replace("/postgres?", f"/{name}?"))
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()


def writer_of(
    engine: sa.Engine,
    *,
    clock: FakeClock | None = None,
    metrics: Metrics | None = None,
    sinks: Mapping[type, Sink] = SINKS,
) -> GroupWriter:
    """Return a writer for `engine`, to be entered with `async with`."""
    return GroupWriter(engine, sinks, clock or FakeClock(), metrics or Metrics())


def _postgresql_programs() -> Path | None:
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = sorted(glob("/usr/lib/postgresql/*/bin"))
    return Path(versions[-1]) if versions else None


def _unprivileged() -> str | None:
    """Return whom to run PostgreSQL as: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@cache
def _empty_cluster(programs: Path, user: str | None) -> Path:
    """Return a cluster as initdb makes it: made once, and copied ever after."""
    directory = Path(tempfile.mkdtemp(prefix="meshca-postgresql-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    if user is not None:
        shutil.chown(directory, user)
    command = [str(programs / "initdb"), "-D", str(directory / "cluster")]
    subprocess.run(
        [*command, "-U", "postgres", "--no-sync", "-A", "trust"],
        user=user,
        check=True,
        capture_output=True,
        cwd=directory,
    )
    return directory / "cluster"


@dataclass
class Postgresql:
    """A PostgreSQL of our own, on a unix socket only."""

    programs: Path
    directory: Path
    user: str | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Return what `open_engine` takes."""
        return f"postgresql+psycopg://postgres@/postgres?host={self.directory}"

    def create(self) -> None:
        """Make the empty cluster."""
        made = _empty_cluster(self.programs, self.user)
        command = ["cp", "-a", str(made), str(self.directory / "cluster")]
        subprocess.run(command, check=True)

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        command = [str(self.programs / "postgres"), "-D", str(self.directory / "cluster")]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *command,
                    "-c",
                    "listen_addresses=",
                    "-c",
                    f"unix_socket_directories={self.directory}",
                ],
                user=self.user,
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )
        ready = [str(self.programs / "pg_isready"), "-q", "-h", str(self.directory)]
        wait_until(
            lambda: subprocess.run(ready, check=False).returncode == 0,
            within_seconds=30,
            what="PostgreSQL to accept connections",
        )

    def stop(self) -> None:
        """End it at once, as a machine that reboots does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=30)
            self.process = None


@contextmanager
def postgresql() -> Iterator[Postgresql]:
    """Yield a running PostgreSQL, and remove it."""
    programs = _postgresql_programs()
    require(programs is not None, "PostgreSQL", "apt-get install postgresql")
    assert programs is not None
    directory = Path(tempfile.mkdtemp(prefix="meshca-postgresql-"))
    server = Postgresql(programs, directory, _unprivileged())
    if server.user is not None:
        shutil.chown(directory, server.user)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)
