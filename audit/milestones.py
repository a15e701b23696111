"""The newest entries of a few rare kinds, for a start that wants to know how the last one went.

An index of their own finds them without looking through the log; it has no other entries, so that
appending those costs nothing.
"""

import heapq
from collections.abc import Iterator
from typing import Any, Final

import sqlalchemy as sa

from audit.log import Stored
from audit.tree import audit_entries
from meshca.database import reading

MILESTONES: Final = ("configuration", "policy_change", "server_start", "server_stop")
LOOK_BACK: Final = 500
"""So many entries of each kind are looked at, at most."""

_IS_MILESTONE: Final = sa.text(f"kind IN ({', '.join(repr(kind) for kind in MILESTONES)})")

sa.Index(
    "ix_audit_entries_milestones",
    audit_entries.c.kind,
    audit_entries.c.leaf_index,
    sqlite_where=_IS_MILESTONE,
    postgresql_where=_IS_MILESTONE,
)


def newest(engine: sa.Engine, *kinds: str) -> Iterator[Stored]:
    """Yield the newest entries of `kinds`, which must be milestones, the newest first.

    What was redacted is not among them. Raises StoreUnavailable.
    """
    assert set(kinds) <= set(MILESTONES), kinds  # noqa: S101  # a programmer's error
    with reading(engine) as connection:
        found = [_of_kind(connection, kind) for kind in kinds]
    yield from heapq.merge(*found, key=lambda stored: -stored.index)


def _of_kind(connection: sa.Connection, kind: str) -> list[Stored]:
    c = audit_entries.c
    query = sa.select(audit_entries).where(_IS_MILESTONE, c.kind == kind, c.body.is_not(None))
    rows = connection.execute(query.order_by(c.leaf_index.desc()).limit(LOOK_BACK))
    return [_stored(row) for row in rows]


def _stored(row: sa.Row[Any]) -> Stored:
    return Stored(row.leaf_index, row.time, row.kind, bytes(row.leaf_hash), row.body.encode())
