"""Looking revocations up for people: page by page, and for certificates that are listed."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from ca.revocation.reason import Reason
from ca.revocation.store import (
    Decision,
    Revocation,
    decisions,
    microseconds,
    read_decision,
    read_revocation,
    revocations,
    seconds,
)
from meshca.database import reading

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which revocations that are in force; None means "any"."""

    spiffe_id: str | None = None
    authority_id: str | None = None
    decision: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list: right after the revocation with that revision and serial."""

    revision: int
    serial: str


@dataclass(frozen=True, slots=True)
class Listing:
    """Reads for people; each raises StoreUnavailable."""

    engine: sa.Engine

    def page(
        self, wanted: Wanted, *, now: datetime, limit: int, after: Place | None = None
    ) -> list[Revocation]:
        """Return at most `limit` revocations of certificates that have not ended, newest first."""
        c = revocations.c
        query = (
            sa.select(revocations)
            .where(c.not_after > seconds(now), c.released_at.is_(None))
            .order_by(c.revision.desc(), c.serial)
            .limit(limit)
        )
        for name in ("spiffe_id", "authority_id", "decision"):
            if (value := getattr(wanted, name)) is not None:
                query = query.where(c[name] == value)
        if wanted.reason is not None:
            query = query.where(c.reason == wanted.reason.value)
        if after is not None:
            here = sa.and_(c.revision == after.revision, c.serial > after.serial)
            query = query.where(sa.or_(c.revision < after.revision, here))
        with reading(self.engine) as connection:
            return [read_revocation(row) for row in connection.execute(query)]

    def decided_between(self, since: datetime, until: datetime, *, limit: int) -> list[Decision]:
        """Return the decisions made from `since` up to `until`, the oldest first."""
        c = decisions.c
        chosen = c.decided_at_us.between(microseconds(since), microseconds(until) - 1)
        query = sa.select(decisions).where(chosen).order_by(c.decided_at_us).limit(limit)
        with reading(self.engine) as connection:
            return [read_decision(row) for row in connection.execute(query)]

    def among(self, serials: Iterable[str]) -> dict[str, Revocation]:
        """Return the revocations in force of `serials` (hex), by serial; others are left out."""
        asked, c = list(serials), revocations.c
        found: dict[str, Revocation] = {}
        with reading(self.engine) as connection:
            for start in range(0, len(asked), _AT_ONCE):
                some = c.serial.in_(asked[start : start + _AT_ONCE])
                query = sa.select(revocations).where(some, c.released_at.is_(None))
                for row in connection.execute(query):
                    found[row.serial] = read_revocation(row)
        return found
