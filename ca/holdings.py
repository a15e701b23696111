"""Which certificates were valid at a time, and what an identity has had: counted, not listed.

A leaf lives at most as long as `longest` (`lifetimes.svid_maximum`), so that what was valid at a
time is looked for among what ended soon after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from ca.revocation.store import revocations
from ca.store import ISSUED, certificates
from meshca.database import reading

MAXIMUM_IDENTITIES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Valid:
    """What was valid at a time: `by_identity` has the first of `identities`, by number."""

    certificates: int
    revoked: int
    identities: int
    by_identity: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Had:
    """What an identity has had: how many certificates, from when until when, how many unsigned."""

    certificates: int
    unsigned: int
    revoked: int
    first_at: datetime | None
    last_until: datetime | None


@dataclass(frozen=True, slots=True)
class Holdings:
    """Counts over the inventory; each raises StoreUnavailable."""

    engine: sa.Engine
    longest: timedelta

    def valid_at(
        self, time: datetime, authority_ids: Sequence[str], *, limit: int = MAXIMUM_IDENTITIES
    ) -> Valid:
        """Return what of these authorities was valid, and not revoked, at `time`."""
        at, until = int(time.timestamp()), int((time + self.longest).timestamp())
        c, r = certificates.c, revocations.c
        is_valid = sa.and_(
            c.authority_id.in_(authority_ids),
            c.not_after > at,
            c.not_after <= until,
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

    def had(self, spiffe_id: str) -> Had:
        """Return what `spiffe_id` has had so far."""
        c, r = certificates.c, revocations.c
        mine = sa.select(
            sa.func.count(),
            sa.func.sum(sa.case((c.status == ISSUED, 0), else_=1)),
            sa.func.min(c.not_before),
            sa.func.max(c.not_after),
        ).where(c.spiffe_id == spiffe_id)
        revoked = sa.select(sa.func.count()).where(
            r.spiffe_id == spiffe_id, r.released_at.is_(None)
        )
        with reading(self.engine) as connection:
            count, unsigned, first, last = connection.execute(mine).one()
            hit = connection.execute(revoked.select_from(revocations)).scalar_one()
        return Had(count, int(unsigned or 0), hit, _time(first), _time(last))


def _time(seconds: Any) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
