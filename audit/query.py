"""Questions to the audit log: filters, order, pages.

A filter that names no known kind or outcome is an error, never an empty answer: a typing mistake
must not look like "nothing happened".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

import orjson
import sqlalchemy as sa

from audit.entry import KINDS, OUTCOMES
from audit.log import microseconds
from audit.tree import audit_entries
from meshca.errors import RequestRefused

MAXIMUM_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries, in which order; None means "any".

    `since` is inclusive and `until` exclusive. `cursor` is the index of the last entry of the
    page before. Raises RequestRefused for an unknown kind or outcome, or a limit out of bounds.
    """

    since: datetime | None = None
    until: datetime | None = None
    spiffe_id: str | None = None
    serial: str | None = None
    kind: str | None = None
    outcome: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    pod: str | None = None
    oldest_first: bool = False
    limit: int = 100
    cursor: int | None = None

    def __post_init__(self) -> None:
        _one_of("kind", self.kind, KINDS)
        _one_of("outcome", self.outcome, OUTCOMES)
        if not 1 <= self.limit <= MAXIMUM_LIMIT:
            raise RequestRefused("limit", f"limit must be from 1 to {MAXIMUM_LIMIT}")


@dataclass(frozen=True, slots=True)
class Found:
    """One entry as it was logged; `body` is the JSON that its leaf covers."""

    index: int
    body: dict[str, Any]
    leaf_hash: bytes


def _one_of(what: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise RequestRefused(
            f"unknown_{what}", f"unknown {what} {value!r}; known: {', '.join(allowed)}"
        )


def find(engine: sa.Engine, query: Query) -> list[Found]:
    """Return the entries that `query` asks for, at most its limit."""
    with engine.connect() as connection:
        return list(islice(_matching(connection, query), query.limit))


def _matching(connection: sa.Connection, query: Query) -> Iterator[Found]:
    names = ("spiffe_id", "outcome", "cluster", "namespace", "pod")
    wanted = {name: getattr(query, name) for name in names if getattr(query, name) is not None}
    if query.serial is not None:
        wanted["serial"] = query.serial.replace(":", "").lower().lstrip("0")
    for row in connection.execute(_select(query)):
        body = orjson.loads(row.body)
        if all(body[name] == value for name, value in wanted.items()):
            yield Found(row.leaf_index, body, bytes(row.leaf_hash))


def _select(query: Query) -> sa.Select[Any]:
    c = audit_entries.c
    select = sa.select(c.leaf_index, c.body, c.leaf_hash).where(c.body.is_not(None))
    if query.kind is not None:
        select = select.where(c.kind == query.kind)
    if query.since is not None:
        select = select.where(c.time >= microseconds(query.since))
    if query.until is not None:
        select = select.where(c.time < microseconds(query.until))
    if query.oldest_first:
        select = select.order_by(c.leaf_index)
        return select if query.cursor is None else select.where(c.leaf_index > query.cursor)
    select = select.order_by(c.leaf_index.desc())
    return select if query.cursor is None else select.where(c.leaf_index < query.cursor)
