"""Denials that a canary caused, as each replica has seen them: rows that are only ever added.

One row is one pair of peer and destination that the set in force would have allowed. A replica
writes few: a pair again only when it is seen again much later, and none beyond the threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from authz.staging.events import STAGING_CHANGED
from meshca.change_feed import announce
from meshca.database import metadata, reading

canary_denials = sa.Table(
    "canary_denials",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("canary", sa.BigInteger, nullable=False, index=True),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("replica", sa.Text, nullable=False),
    sa.Column("example", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class CanaryDenial:
    """`source` was denied `destination` in `canary`, last at `at`, `count` times so far.

    `canary` is the number of the step that began it. `example` says why, of one request.
    """

    canary: int
    source: str
    destination: str
    at: datetime
    count: int
    replica: str
    example: str

    @property
    def pair(self) -> tuple[str, str]:
        """Return who was denied what."""
        return self.source, self.destination


class CanaryDenialSink:
    """Writes denials, and announces them."""

    def write(self, connection: sa.Connection, records: Sequence[CanaryDenial]) -> None:
        """Insert one row each."""
        announce(connection, STAGING_CHANGED)
        for record in records:
            values = {
                "canary": record.canary,
                "source": record.source,
                "destination": record.destination,
                "at_us": _microseconds(record.at),
                "count": record.count,
                "replica": record.replica,
                "example": record.example,
            }
            connection.execute(sa.insert(canary_denials).values(values))


def read_denials(engine: sa.Engine, canary: int, *, since: datetime) -> list[CanaryDenial]:
    """Return the denials of `canary` since then, oldest first; raises StoreUnavailable."""
    c = canary_denials.c
    wanted = (c.canary == canary, c.at_us >= _microseconds(since))
    query = sa.select(canary_denials).where(*wanted).order_by(c.id)
    with reading(engine) as connection:
        return [_denial(row) for row in connection.execute(query)]


def _denial(row: sa.Row[Any]) -> CanaryDenial:
    r = row._mapping
    at = _EPOCH + timedelta(microseconds=r["at_us"])
    return CanaryDenial(
        r["canary"], r["source"], r["destination"], at, r["count"], r["replica"], r["example"]
    )


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
