"""Databases of both kinds, empty for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.audit.signed_log import engine_of
from tests.stores import Postgresql, postgresql


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """A PostgreSQL of our own."""
    with postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def both_engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """A migrated database of each kind in turn."""
    server = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
    with engine_of(request.param, tmp_path, server) as engine:
        yield engine
