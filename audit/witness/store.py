"""The newest checkpoint that we cosigned for each log, taken forward by comparison only.

`Advance` names the checkpoint that it was held against; if another came first, nothing is written
and the whole transaction is refused: no log is ever taken back, whoever races whom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from audit.checkpoints import time_of
from audit.log import microseconds
from audit.merkle import EMPTY_ROOT
from meshca.database import Sink, metadata, reading
from meshca.errors import Conflict

audit_witnessed = sa.Table(
    "audit_witnessed",
    metadata,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),  # microseconds since the epoch
)
_c = audit_witnessed.c


@dataclass(frozen=True, slots=True)
class Seen:
    """What was cosigned last for a log; a log never seen is empty."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: str = ""


@dataclass(frozen=True, slots=True)
class Advance:
    """The log `origin` goes from `before` to `after`."""

    origin: str
    before: Seen
    after: Seen
    time: datetime


class AdvanceSink:
    """Takes logs forward."""

    def write(self, connection: sa.Connection, records: Sequence[Advance]) -> None:
        """Write one row a record; raises Conflict when a log is not where it was thought to be."""
        for record in records:
            if not record.before.note:
                self._insert(connection, record)
                continue
            is_as_before = sa.and_(
                _c.origin == record.origin,
                _c.size == record.before.size,
                _c.root == record.before.root,
            )
            done = connection.execute(
                sa.update(audit_witnessed).where(is_as_before).values(_values(record))
            )
            if done.rowcount != 1:
                raise Conflict(f"{record.origin} is not at {record.before.size} any more")

    def _insert(self, connection: sa.Connection, record: Advance) -> None:
        seen = connection.execute(sa.select(_c.size).where(_c.origin == record.origin)).first()
        if seen is not None:
            raise Conflict(f"{record.origin} was seen meanwhile")
        values = {"origin": record.origin, **_values(record)}
        connection.execute(sa.insert(audit_witnessed), values)


WITNESS_SINKS: Final[Mapping[type, Sink]] = {Advance: AdvanceSink()}


def read_seen(engine: sa.Engine, origin: str) -> Seen:
    """Return what was cosigned last for `origin`; raises StoreUnavailable."""
    with reading(engine) as connection:
        row = connection.execute(sa.select(audit_witnessed).where(_c.origin == origin)).first()
    return Seen() if row is None else Seen(row.size, bytes(row.root), row.note)


def read_all_seen(engine: sa.Engine) -> dict[str, tuple[int, datetime]]:
    """Return size and time of what was cosigned last, by origin; raises StoreUnavailable."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(_c.origin, _c.size, _c.time)).all()
    return {row.origin: (row.size, time_of(row.time)) for row in rows}


def _values(record: Advance) -> dict[str, object]:
    after = record.after
    return {
        "size": after.size,
        "root": after.root,
        "note": after.note,
        "time": microseconds(record.time),
    }
