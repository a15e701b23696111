"""What a disk does to a database: it is noticed, nothing garbled is shown, and nothing is lost."""

import asyncio
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.log import Log
from audit.query import Query, find
from audit.verify import verify
from meshca.database import open_engine
from meshca.errors import EvidenceBroken, StoreUnavailable
from tests.audit.retention.world import NOW, append, entry
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

COUNT = 400
BROKEN = (EvidenceBroken, StoreUnavailable)


def filled(directory: Path) -> Path:
    """Return a SQLite database with a log whose write-ahead log is empty."""
    with sqlite_engine(directory) as engine:
        append(engine, *(entry(n, reason=f"marked-{n:04}") for n in range(COUNT)))
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return directory / "meshca.db"


@contextmanager
def opened(path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{path}")
    try:
        yield engine
    finally:
        engine.dispose()


def test_a_garbled_body_is_noticed_and_not_shown(tmp_path: Path) -> None:
    path = filled(tmp_path)
    content = path.read_bytes()
    assert content.count(b"marked-0200") == 1
    path.write_bytes(content.replace(b"marked-0200", b"marked-9200"))
    with opened(path) as engine:
        with pytest.raises(EvidenceBroken, match="entry 200 does not match") as caught:
            verify(engine)
        assert caught.value.index == 200
        with pytest.raises(EvidenceBroken):
            Log(engine).get([200])
        with pytest.raises(EvidenceBroken):
            find(engine, Query(text="marked-9200"))
        assert Log(engine).get([199])[0].document() is not None, "the others are"


@pytest.mark.parametrize("part", [0.3, 0.5, 0.7, 0.95])
def test_a_page_of_zeros_is_noticed(tmp_path: Path, part: float) -> None:
    path = filled(tmp_path)
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for page in range(int(pages * part), pages):
            file.seek(page * 4096)
            file.write(bytes(4096))
    with pytest.raises(BROKEN), opened(path) as engine:
        verify(engine)


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_database_that_was_cut_is_noticed(tmp_path: Path, part: float) -> None:
    path = filled(tmp_path)
    os.truncate(path, int(path.stat().st_size * part) // 4096 * 4096)
    with pytest.raises(BROKEN), opened(path) as engine:
        verify(engine)


@pytest.mark.parametrize("damage", ["cut", "garbled"])
def test_what_a_torn_write_ahead_log_loses_it_loses_as_whole_groups(
    tmp_path: Path, damage: str
) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    with sqlite_engine(origin) as engine:
        append(engine, entry(0))
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        for n in range(1, 40):
            append(engine, *(entry(10 * n + k) for k in range(10)))
        size = (origin / "meshca.db-wal").stat().st_size
        for number, at in enumerate(range(100, size, size // 12)):
            copy = tmp_path / f"{damage}-{number}"
            copy.mkdir()
            for suffix in ("", "-wal"):  # what a machine that lost its power leaves
                shutil.copy(origin / f"meshca.db{suffix}", copy / f"meshca.db{suffix}")
            with (copy / "meshca.db-wal").open("r+b") as file:
                if damage == "cut":
                    file.truncate(at)
                else:
                    file.seek(at)
                    file.write(os.urandom(64))
            with opened(copy / "meshca.db") as torn:
                size_now = verify(torn).size
                assert (size_now - 1) % 10 == 0, "a group is there whole or not at all"
                append(torn, entry(1))
                assert verify(torn).size == size_now + 1, "and the log goes on"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size`: the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_refuses_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> tuple[int, int]:
        taken = refused = 0
        async with writer_of(engine) as writer:
            for n in range(200):
                try:
                    await writer.submit(entry(n, details={"much": "x" * 2_000}))
                    taken += 1
                except StoreUnavailable:
                    refused += 1
        return taken, refused

    path = filled(tmp_path)
    with opened(path) as engine:
        with files_of_at_most(path.stat().st_size + 100_000):
            taken, refused = asyncio.run(story(engine))
        assert taken
        assert refused
        assert verify(engine).size == COUNT + taken
        append(engine, entry(1))
        assert verify(engine).size == COUNT + taken + 1, "room again: it goes on"


def test_a_clock_that_goes_backwards_changes_no_order(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        clock = FakeClock()
        async with writer_of(engine, clock=clock) as writer:
            for n in range(5):
                await writer.submit(entry(n, time=clock.now()))
                clock.jump(timedelta(hours=-1))

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        stored = list(Log(engine).entries())
        assert [s.index for s in stored] == [0, 1, 2, 3, 4]
        assert [s.time_us for s in stored] == sorted((s.time_us for s in stored), reverse=True)
        assert verify(engine).size == 5
        found = find(engine, Query(since=NOW - timedelta(hours=2), until=NOW)).entries
        assert sorted(f.index for f in found) == [1, 2]
