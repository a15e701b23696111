"""The applied policy sets: every version that was ever applied, with who and why. Append-only.

The version is the number of the row. Of two writers that reach for the same number the later one is
refused. Every replica hears of a new version (`POLICIES_CHANGED`).
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from meshca.change_feed import announce
from meshca.database import bulk_insert, metadata
from meshca.errors import Conflict, NotFound, StoreUnavailable

POLICIES_CHANGED: Final = "policies"

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
    """Writes applied sets as new rows, and lets every replica hear of them."""

    def write(self, connection: sa.Connection, records: Sequence[AppliedSet]) -> None:
        """Insert one row a set.

        Raises Conflict when a version is not the next one: somebody else has applied meanwhile.
        """
        announce(connection, POLICIES_CHANGED)  # first: whoever announces too waits for our commit
        newest = connection.execute(sa.select(sa.func.max(policy_sets.c.version))).scalar() or 0
        if [r.version for r in records] != list(range(newest + 1, newest + 1 + len(records))):
            raise Conflict(
                f"the applied set is version {newest} by now: somebody has changed it meanwhile; "
                "look at it and try again"
            )
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


@dataclass(frozen=True, slots=True)
class Version:
    """One applied set without its documents, which are `characters` long."""

    version: int
    time: datetime
    author: str
    reason: str
    characters: int


def history(engine: sa.Engine, *, limit: int, before: int | None = None) -> list[Version]:
    """Return the newest `limit` versions (older than `before`), the newest first.

    Raises StoreUnavailable.
    """
    c = policy_sets.c
    size = sa.func.length(c.documents).label("characters")
    query = sa.select(c.version, c.time, c.author, c.reason, size).order_by(c.version.desc())
    if before is not None:
        query = query.where(c.version < before)
    with _reading(engine) as connection:
        rows: list[Any] = list(connection.execute(query.limit(limit)))
    return [
        Version(r.version, datetime.fromtimestamp(r.time, UTC), r.author, r.reason, r.characters)
        for r in rows
    ]


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
