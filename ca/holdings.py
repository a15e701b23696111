"""Which certificates were valid at a time, and what an identity has had: counted, not listed.

A leaf lives within the life of its authority, so what was valid at a time is looked for among what
authorities of that time have issued. Lifetimes of the configuration do not count: they change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from ca.revocation.store import revocations
from ca.store import certificates
from meshca.database import reading

MAXIMUM_IDENTITIES: Final = 1_000
_AT_ONCE: Final = 500
_BACKDATED: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Valid:
    """What was valid at a time: `by_identity` has the first of `identities`, by number."""

    certificates: int
    revoked: int
    identities: int
    by_identity: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Had:
    """What an identity has had: how many certificates, how many revoked, from when until when.

    `live` are the serials (hex) of those that have not ended, revoked or not, the newest first.
    """

    certificates: int
    revoked: int
    first_at: datetime | None
    last_until: datetime | None
    live: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holdings:
    """Counts over the inventory; each raises StoreUnavailable."""

    engine: sa.Engine

    def valid_at(
        self, time: datetime, authority_ids: Sequence[str], *, limit: int = MAXIMUM_IDENTITIES
    ) -> Valid:
        """Return what of these authorities was valid, and not revoked, at `time`."""
        at = int(time.timestamp())
        c, r = certificates.c, revocations.c
        is_valid = sa.and_(
            c.authority_id.in_(authority_ids),
            c.not_after > at,
            c.not_before <= at,
        )
        is_revoked = sa.and_(
            r.serial == c.serial,
            r.revoked_at <= at,
            sa.or_(r.released_at.is_(None), r.released_at > at),
        )
        revoked = sa.exists().where(is_revoked)
        good = sa.select(c.spiffe_id, sa.func.count()).where(is_valid, ~revoked)
        bad = sa.select(sa.func.count()).select_from(certificates).where(is_valid, revoked)
        with reading(self.engine) as connection:
            counted = connection.execute(good.group_by(c.spiffe_id)).all()
            refused = connection.execute(bad).scalar_one()
        each = sorted(((name, int(n)) for name, n in counted), key=lambda one: (-one[1], one[0]))
        return Valid(sum(n for _, n in each), refused, len(each), tuple(each[:limit]))

    def had(self, spiffe_id: str, now: datetime, oldest: datetime) -> Had:
        """Return what `spiffe_id` has had so far.

        `oldest` is the beginning of the oldest authority that has not ended: what began before
        cannot be alive.
        """
        c, r = certificates.c, revocations.c
        mine = c.spiffe_id == spiffe_id
        count = sa.select(sa.func.count()).select_from(certificates).where(mine)
        first = sa.select(c.not_before).where(mine).order_by(c.id).limit(1)
        is_revoked = sa.and_(r.spiffe_id == spiffe_id, r.released_at.is_(None))
        revoked = sa.select(sa.func.count()).select_from(revocations).where(is_revoked)
        with reading(self.engine) as connection:
            recent = list(self._recent(connection, spiffe_id, oldest))
            return Had(
                certificates=connection.execute(count).scalar_one(),
                revoked=connection.execute(revoked).scalar_one(),
                first_at=_time(connection.execute(first).scalar_one_or_none()),
                last_until=_time(max((row.not_after for row in recent), default=None)),
                live=tuple(row.serial for row in recent if row.not_after > now.timestamp()),
            )

    def _recent(self, connection: sa.Connection, spiffe_id: str, oldest: datetime) -> Iterator[Any]:
        """Yield the newest certificates, and all that can still be alive."""
        c, below, since = certificates.c, None, int((oldest - _BACKDATED).timestamp())
        query = sa.select(c.id, c.serial, c.not_before, c.not_after).where(c.spiffe_id == spiffe_id)
        while True:
            page = query if below is None else query.where(c.id < below)
            rows = connection.execute(page.order_by(c.id.desc()).limit(_AT_ONCE)).all()
            yield from rows
            if len(rows) < _AT_ONCE or rows[-1].not_before < since:
                return
            below = rows[-1].id


def _time(seconds: Any) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
