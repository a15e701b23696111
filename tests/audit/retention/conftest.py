"""Databases with an empty log: SQLite, and a PostgreSQL for each file of tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.audit.retention.world import empty_database
from tests.stores import Postgresql, postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[Postgresql]:
    """A PostgreSQL."""
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """A database with an empty log, of either kind."""
    kind = request.param
    server = request.getfixturevalue("server") if kind == "postgresql" else None
    with empty_database(kind, tmp_path, server) as engine:
        yield engine
