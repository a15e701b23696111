"""The checkpoints that are kept: what was signed, when, and by which keys.

All of the last hour are kept, then one a minute for a day, then one an hour for ever: the last of
each span, for each set of keys that signed. So a key is never without the checkpoint in which the
key before it vouches for it. What is dropped proves nothing that a later one does not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa

from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.log import microseconds
from audit.note import Note, parse_note
from meshca.change_feed import announce
from meshca.database import Sink, metadata, reading

CHECKPOINTS_CHANGED: Final = "audit_checkpoints"
ALL_FOR: Final = timedelta(hours=1)
MINUTES_FOR: Final = timedelta(days=1)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

audit_checkpoints = sa.Table(
    "audit_checkpoints",
    metadata,
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", sa.BigInteger, nullable=False),  # microseconds since the epoch
    sa.Column("keys", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
)
_c = audit_checkpoints.c


@dataclass(frozen=True, slots=True)
class Kept:
    """A checkpoint as it is kept: `note` is the signed note, not verified."""

    origin: str
    size: int
    time: datetime
    note: str

    def parsed(self) -> tuple[Checkpoint, Note]:
        """Return what the note says, and the note; raises NoteRefused."""
        note = parse_note(self.note)
        return parse_checkpoint(note.text), note


@dataclass(frozen=True, slots=True)
class Thinning:
    """Drop what is too old to be kept as `now` is the time."""

    origin: str
    now: datetime


class KeptSink:
    """Keeps checkpoints, and lets everybody hear of them."""

    def write(self, connection: sa.Connection, records: Sequence[Kept]) -> None:
        """Insert one row each; of one size the first stays."""
        statement = sa.text(
            "INSERT INTO audit_checkpoints (origin, size, time, keys, note)"
            " VALUES (:origin, :size, :time, :keys, :note) ON CONFLICT (origin, size) DO NOTHING"
        )
        for kept in records:
            signatures = kept.parsed()[1].signatures
            values = {
                "origin": kept.origin,
                "size": kept.size,
                "time": microseconds(kept.time),
                "keys": ",".join(sorted(signature.key_id.hex() for signature in signatures)),
                "note": kept.note,
            }
            connection.execute(statement, values)
        announce(connection, CHECKPOINTS_CHANGED)


class ThinningSink:
    """Drops checkpoints."""

    def write(self, connection: sa.Connection, records: Sequence[Thinning]) -> None:
        """Delete what `Thinning` says."""
        statement = sa.text(
            "DELETE FROM audit_checkpoints WHERE origin = :origin AND time < :all_since"
            " AND size NOT IN (SELECT max(size) FROM audit_checkpoints"
            " WHERE origin = :origin AND time < :all_since GROUP BY keys,"
            " CASE WHEN time < :minutes_since THEN -(time / 3600000000) ELSE time / 60000000 END)"
        )
        for thinning in records:
            values = {
                "origin": thinning.origin,
                "all_since": microseconds(thinning.now - ALL_FOR),
                "minutes_since": microseconds(thinning.now - MINUTES_FOR),
            }
            connection.execute(statement, values)


def newest_checkpoint(engine: sa.Engine, origin: str) -> Kept | None:
    """Return the largest checkpoint of the log `origin`; raises StoreUnavailable."""
    found = checkpoints(engine, origin, limit=1)
    return found[0] if found else None


def checkpoint_of(engine: sa.Engine, origin: str, size: int) -> Kept | None:
    """Return the checkpoint of exactly `size` entries, if it is kept; raises StoreUnavailable."""
    found = _select(
        engine, sa.select(audit_checkpoints).where(_c.origin == origin, _c.size == size)
    )
    return found[0] if found else None


def checkpoint_from(engine: sa.Engine, origin: str, size: int) -> Kept | None:
    """Return the smallest kept checkpoint of at least `size` entries; raises StoreUnavailable."""
    query = sa.select(audit_checkpoints).where(_c.origin == origin, _c.size >= size)
    found = _select(engine, query.order_by(_c.size).limit(1))
    return found[0] if found else None


def checkpoints(
    engine: sa.Engine, origin: str, *, limit: int | None = None, below: int | None = None
) -> list[Kept]:
    """Return the checkpoints of the log `origin`, the largest first; raises StoreUnavailable.

    `below`: only of logs with fewer entries than that.
    """
    query = sa.select(audit_checkpoints).where(_c.origin == origin).order_by(_c.size.desc())
    return _select(engine, (query if below is None else query.where(_c.size < below)).limit(limit))


def time_of(microseconds_since_1970: int) -> datetime:
    """Return the time of a column."""
    return _EPOCH + timedelta(microseconds=microseconds_since_1970)


CHECKPOINT_SINKS: Final[Mapping[type, Sink]] = MappingProxyType(
    {Kept: KeptSink(), Thinning: ThinningSink()}
)


def _select(engine: sa.Engine, query: sa.Select[Any]) -> list[Kept]:
    with reading(engine) as connection:
        rows = connection.execute(query).all()
    return [Kept(row.origin, row.size, time_of(row.time), row.note) for row in rows]
