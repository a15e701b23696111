"""Real databases for tests: SQLite in a directory, and a throwaway PostgreSQL."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import sqlalchemy as sa

from audit.entry import Entry
from audit.log import EntrySink
from ca.store import Intent, IntentSink, Signed, SignedSink
from meshca.database import GroupWriter, Sink, migrate, open_engine
from meshca.metrics import Metrics
from tests.fakes import FakeClock
from tests.real_parts import require, wait_until

SINKS: Mapping[type, Sink] = {Intent: IntentSink(), Entry: EntrySink(), Signed: SignedSink()}


@contextmanager
def sqlite_engine(directory: Path) -> Iterator[sa.Engine]:
    """Yield a migrated SQLite database in `directory`."""
    engine = open_engine(f"sqlite:///{directory / 'meshca.db'}")
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


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL that listens on a unix socket only; yield its URL, and end it."""
    programs = _postgresql_programs()
    require(programs is not None, "PostgreSQL", "apt-get install postgresql")
    assert programs is not None
    user = _unprivileged()
    directory = Path(tempfile.mkdtemp(prefix="meshca-postgresql-"))
    if user is not None:
        shutil.chown(directory, user)
    try:
        cluster = directory / "cluster"
        subprocess.run(
            [programs / "initdb", "-D", cluster, "-U", "postgres", "--no-sync", "-A", "trust"],
            user=user,
            check=True,
            capture_output=True,
            cwd=directory,
        )
        with _running(programs, cluster, directory, user):
            yield f"postgresql+psycopg://postgres@/postgres?host={directory}"
    finally:
        shutil.rmtree(directory)


@contextmanager
def _running(programs: Path, cluster: Path, directory: Path, user: str | None) -> Iterator[None]:
    options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={directory}"]
    with (directory.parent / f"{directory.name}.log").open("wb") as log:
        server = subprocess.Popen(
            [programs / "postgres", "-D", cluster, *options],
            user=user,
            cwd=directory,
            stdout=log,
            stderr=log,
        )
        try:
            ready = [str(programs / "pg_isready"), "-q", "-h", str(directory)]
            wait_until(
                lambda: subprocess.run(ready, check=False).returncode == 0,
                within_seconds=30,
                what="PostgreSQL to accept connections",
            )
            yield
        finally:
            server.terminate()
            server.wait(timeout=30)
            Path(log.name).unlink()
