"""Migrations make the schema that the code speaks of, and refuse what they do not know."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from ca.store import certificates
from meshca.database import metadata, open_engine
from meshca.errors import StoreUnavailable
from meshca.schema import migrate
from tests.real_parts import ROOT
from tests.stores import postgresql, sqlite_engine


def declare_every_table() -> None:
    """Import every module of ours that declares a table."""
    for package in ("audit", "authz", "ca", "identity", "rotation"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if any(word in path.read_text() for word in ("sa.Table(", "sa.Index(")):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


@contextmanager
def migrated(kind: str, directory: Path) -> Iterator[sa.Engine]:
    if kind == "sqlite":
        with sqlite_engine(directory) as engine:
            yield engine
        return
    with postgresql() as server:
        engine = open_engine(server.url)
        try:
            migrate(engine)
            yield engine
        finally:
            engine.dispose()


def _is_declared(name: str | None, kind: str, _parents: object) -> bool:
    """Leave out partitions: they are made as time goes on."""
    return not (kind == "table" and str(name).startswith("audit_entries_"))


@contextmanager
def described(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a connection to ask for the schema; SQLAlchemy reads PostgreSQL's as text only."""
    plain = sa.create_engine(engine.url)
    try:
        with plain.connect() as connection:
            yield connection
    finally:
        plain.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_schema_is_the_one_that_the_code_declares(kind: str, tmp_path: Path) -> None:
    declare_every_table()
    assert {"certificates", "audit_entries", "policy_sets"} <= set(metadata.tables)
    with migrated(kind, tmp_path) as engine, described(engine) as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_name": _is_declared}
        )
        assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        migrate(engine)
        with engine.connect() as connection:
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
            assert len(version.all()) == 1


def test_certificates_of_before_get_their_fingerprints(tmp_path: Path) -> None:
    migration = importlib.import_module("meshca.migrations.versions.0015_audit_milestones")
    empty = {column.name: "" for column in certificates.c}
    rows = [
        {**empty, "id": number, "serial": str(number), "certificate": der, "fingerprint": None}
        for number, der in enumerate((b"one", None, b"two"), start=1)
    ]
    with sqlite_engine(tmp_path) as engine, engine.begin() as connection:
        table = sa.table("certificates", *(sa.column(name) for name in empty))
        connection.execute(sa.insert(table), rows)
        migration._fill(connection)
        query = sa.select(certificates.c.fingerprint).order_by(certificates.c.id)
        filled = connection.execute(query).scalars().all()
    assert filled == [sha256(b"one").digest(), None, sha256(b"two").digest()]


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(StoreUnavailable, match=r"cannot migrate.*9999"):
            migrate(engine)
