"""The applied policy sets: every version that was ever applied, with who and why. Append-only.

The version is the number of the row; two writers that reach for the same number collide on the
primary key, and the later one is refused.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from meshca.database import bulk_insert, metadata
from meshca.errors import NotFound, StoreUnavailable

policy_sets = sa.Table(
    "policy_sets",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("documents", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class AppliedSet:
    """One applied set: `documents` is its YAML, whole; `version` counts from 1."""

    version: int
    time: datetime
    author: str
    reason: str
    documents: str


class AppliedSetSink:
    """Writes applied sets as new rows."""

    def write(self, connection: sa.Connection, records: Sequence[AppliedSet]) -> None:
        """Insert one row a set."""
        rows = [(r.version, int(r.time.timestamp()), r.author, r.reason, r.documents)
                for r in records]  # fmt: skip
        bulk_insert(connection, policy_sets, rows)


def latest(engine: sa.Engine) -> AppliedSet | None:
    """Return the newest applied set, or None when none was ever applied.

    Raises StoreUnavailable.
    """
    return _one(engine, sa.select(policy_sets).order_by(policy_sets.c.version.desc()).limit(1))


def get(engine: sa.Engine, version: int) -> AppliedSet:
    """Return the applied set with `version`.

    Raises NotFound and StoreUnavailable.
    """
    applied = _one(engine, sa.select(policy_sets).where(policy_sets.c.version == version))
    if applied is None:
        raise NotFound(f"no policy set with version {version} was applied")
    return applied


def latest_version(engine: sa.Engine) -> int:
    """Return the version of the newest applied set; 0 when none was ever applied.

    Raises StoreUnavailable.
    """
    with _reading(engine) as connection:
        return connection.execute(sa.select(sa.func.max(policy_sets.c.version))).scalar() or 0


def _one(engine: sa.Engine, query: sa.Select[tuple[object, ...]]) -> AppliedSet | None:
    with _reading(engine) as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return None
    r = row._mapping
    return AppliedSet(
        version=r["version"],
        time=datetime.fromtimestamp(r["time"], UTC),
        author=r["author"],
        reason=r["reason"],
        documents=r["documents"],
    )


@contextlib.contextmanager
def _reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    try:
        with engine.connect() as connection:
            yield connection
    except sa.exc.SQLAlchemyError as error:
        raise StoreUnavailable(f"the applied policies cannot be read: {error}") from error
