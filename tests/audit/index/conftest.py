"""A log that lacks one entry for a large segment, made once, with its index."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.index.building import LARGE
from tests.audit.index.world import append, entries, index
from tests.stores import sqlite_engine


@pytest.fixture(scope="session")
def long_log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database's file; its index has small segments only."""
    directory = tmp_path_factory.mktemp("long-log")
    with sqlite_engine(directory) as engine:
        append(engine, entries(0, LARGE - 1))
        index(engine)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return directory / "meshca.db"


@pytest.fixture
def long_log(long_log_file: Path, tmp_path: Path) -> Iterator[sa.Engine]:
    """A copy of it."""
    shutil.copy(long_log_file, tmp_path / "meshca.db")
    with sqlite_engine(tmp_path) as engine:
        yield engine
