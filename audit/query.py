"""Questions to the audit log: filters, order, pages.

A filter that names no known kind or outcome is an error, never an empty answer: a typing mistake
must not look like "nothing happened".
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa

from audit.entry import KINDS, OUTCOMES
from audit.log import audit_entries
from meshca.errors import RequestRefused

MAXIMUM_LIMIT = 1_000


@dataclass(frozen=True, slots=True)
class Query:
    """Which entries, in which order; None means "any".

    `since` is inclusive and `until` exclusive. `cursor` is the sequence of the last entry of the
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
    """One entry as it was logged; `body` is the JSON that the chain covers."""

    sequence: int
    body: dict[str, Any]
    hash: bytes


def _one_of(what: str, value: str | None, allowed: tuple[str, ...]) -> None:
    if value is not None and value not in allowed:
        raise RequestRefused(
            f"unknown_{what}", f"unknown {what} {value!r}; known: {', '.join(allowed)}"
        )


def find(engine: sa.Engine, query: Query) -> list[Found]:
    """Return the entries that `query` asks for, at most its limit."""
    with engine.connect() as connection:
        rows = connection.execute(_select(query)).all()
    return [Found(row.sequence, orjson.loads(row.body), bytes(row.hash)) for row in rows]


def _select(query: Query) -> sa.Select[tuple[int, str, bytes]]:
    c = audit_entries.c
    select = sa.select(c.sequence, c.body, c.hash).limit(query.limit)
    for name in ("spiffe_id", "kind", "outcome", "cluster", "namespace", "pod"):
        if (value := getattr(query, name)) is not None:
            select = select.where(c[name] == value)
    if query.serial is not None:
        select = select.where(c.serial == query.serial.replace(":", "").lower().lstrip("0"))
    if query.since is not None:
        select = select.where(c.time >= round(query.since.timestamp() * 1_000_000))
    if query.until is not None:
        select = select.where(c.time < round(query.until.timestamp() * 1_000_000))
    if query.oldest_first:
        select = select.order_by(c.sequence)
        return select if query.cursor is None else select.where(c.sequence > query.cursor)
    select = select.order_by(c.sequence.desc())
    return select if query.cursor is None else select.where(c.sequence < query.cursor)
