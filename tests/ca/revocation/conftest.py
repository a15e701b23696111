"""Databases for tests of revocation: SQLite and PostgreSQL, empty for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from meshca.database import open_engine
from meshca.schema import migrate
from tests.ca.revocation.world import clear
from tests.stores import Postgresql, postgresql, sqlite_engine


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A PostgreSQL for the tests of one file."""
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty, migrated database."""
    if request.param == "sqlite":
        with sqlite_engine(tmp_path) as engine:
            yield engine
        return
    engine = open_engine(request.getfixturevalue("server").url)
    migrate(engine)
    clear(engine)
    yield engine
    engine.dispose()
