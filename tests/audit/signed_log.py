"""A real log with its signer, for tests of checkpoints, proofs and verification."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from audit.checkpoints import Kept, checkpoints
from audit.key_files import KeyFiles, Wrapping
from audit.log import Log
from audit.log_keys import LogKeys
from audit.signing import CheckpointSigner, LastSigned
from meshca.clock import Clock
from meshca.database import GroupWriter, open_engine
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks, open_name_locks
from meshca.schema import migrate
from tests.audit.test_log import entry
from tests.fakes import FakeClock
from tests.stores import Postgresql, sqlite_engine, writer_of

ORIGIN = "example.org/meshca/audit"
OVERLAP = timedelta(days=7)


def make_signer(
    engine: sa.Engine,
    directory: Path,
    *,
    writer: GroupWriter,
    clock: Clock,
    locks: NameLocks | None = None,
    metrics: Metrics | None = None,
    origin: str = ORIGIN,
    replica: str = "main",
    wrapping: Wrapping | None = None,
) -> CheckpointSigner:
    """Return a signer that keeps its files in `directory`, with keys of its own."""
    metrics = metrics or Metrics()
    keys = LogKeys(
        files=KeyFiles(directory=directory / "keys", origin=origin, wrapping=wrapping),
        engine=engine,
        writer=writer,
        clock=clock,
        replica=replica,
        overlap=OVERLAP,
    )
    return CheckpointSigner(
        origin=origin,
        log=Log(engine),
        keys=keys,
        last=LastSigned(directory / "last-checkpoint"),
        locks=locks or open_name_locks(engine),
        writer=writer,
        clock=clock,
        metrics=metrics,
    )


@dataclass
class SignedLog:
    """One replica: its log, keys and signer, on a real database and a real directory."""

    engine: sa.Engine
    directory: Path
    writer: GroupWriter
    locks: NameLocks
    clock: FakeClock
    replica: str = "main"
    wrapping: Wrapping | None = None
    origin: str = ORIGIN
    metrics: Metrics = field(default_factory=Metrics)
    keys: LogKeys = field(init=False)
    signer: CheckpointSigner = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what is in memory, as a process that starts again."""
        self.signer = make_signer(
            self.engine,
            self.directory,
            writer=self.writer,
            clock=self.clock,
            locks=self.locks,
            metrics=self.metrics,
            origin=self.origin,
            replica=self.replica,
            wrapping=self.wrapping,
        )
        self.keys = self.signer.keys

    async def append(self, count: int = 1) -> None:
        """Append some entries."""
        size = Log(self.engine).head().size
        await self.writer.submit(*(entry(size + number) for number in range(count)))

    def kept(self) -> list[Kept]:
        """Return every checkpoint, the largest first."""
        return checkpoints(self.engine, self.origin)

    def counted(self, outcome: str) -> float:
        """Return how many checkpoints ended so."""
        name = "meshca_audit_checkpoints_total"
        return self.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0

    def is_inconsistent(self) -> bool:
        """Return what the gauge says that somebody is woken by."""
        return self.metrics.registry.get_sample_value("meshca_audit_log_inconsistent") == 1


@asynccontextmanager
async def signed_log(
    engine: sa.Engine,
    directory: Path,
    *,
    replica: str = "main",
    wrapping: Wrapping | None = None,
    clock: FakeClock | None = None,
) -> AsyncIterator[SignedLog]:
    """Yield a log on `engine` whose signer keeps its files in `directory`."""
    locks = open_name_locks(engine)
    clock = clock or FakeClock()
    try:
        async with writer_of(engine, clock=clock) as writer:
            yield SignedLog(engine, directory, writer, locks, clock, replica, wrapping)
    finally:
        await asyncio.to_thread(locks.close)


@contextmanager
def engine_of(kind: str, directory: Path, server: Postgresql | None) -> Iterator[sa.Engine]:
    """Yield an empty, migrated database: SQLite in `directory`, or that of `server`."""
    if server is None:
        with sqlite_engine(directory) as engine:
            yield engine
        return
    assert kind == "postgresql"
    engine = open_engine(server.url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
