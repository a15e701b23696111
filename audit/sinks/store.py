"""How far each sink is: the one thing that must outlive a restart.

The log itself is the buffer on disk: entries stay in the database whether a collector takes them
or not, so a sink that is down for a week has lost nothing, and needs no second copy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

import sqlalchemy as sa

from audit.log import microseconds
from meshca.database import Sink, metadata, reading

audit_sinks = sa.Table(
    "audit_sinks",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("next", sa.BigInteger, nullable=False),  # the index of the first entry not delivered
    sa.Column("time", sa.BigInteger, nullable=False),  # microseconds since the epoch
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The collector of the sink `name` has every entry before `next`."""

    name: str
    next: int
    time: datetime


class DeliveredSink:
    """Writes how far sinks are; none ever goes back."""

    def write(self, connection: sa.Connection, records: Sequence[Delivered]) -> None:
        """Insert or update one row each."""
        statement = sa.text(
            "INSERT INTO audit_sinks (name, next, time) VALUES (:name, :next, :time)"
            " ON CONFLICT (name) DO UPDATE SET next = excluded.next, time = excluded.time"
            " WHERE excluded.next >= audit_sinks.next"
        )
        for one in records:
            values = {"name": one.name, "next": one.next, "time": microseconds(one.time)}
            connection.execute(statement, values)


SINK_SINKS: Final[Mapping[type, Sink]] = MappingProxyType({Delivered: DeliveredSink()})


def read_next(engine: sa.Engine, name: str) -> int | None:
    """Return where the sink `name` goes on; None if it never delivered. Raises StoreUnavailable."""
    query = sa.select(audit_sinks.c.next).where(audit_sinks.c.name == name)
    with reading(engine) as connection:
        found = connection.execute(query).scalar_one_or_none()
    return None if found is None else int(found)
