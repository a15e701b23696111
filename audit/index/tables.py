"""The index in the database: segments, their blocks, and the steps in which they are written.

A segment is opened, filled in small transactions, and published: only then queries see it, and only
then those that it replaces go. Between opening and publishing nothing may have been redacted in it
(`mark_for_rebuild`), so that no published segment knows what the log does not hold any more; one
that is marked later is built again. Rows of segments are changed under the lock of the log, as
redactions are: none falls between the mark and its commit, and nobody waits in a circle.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Final

import orjson
import sqlalchemy as sa

from audit.index.building import Values
from audit.log import lock_log
from meshca.database import Sink, bulk_insert, metadata
from meshca.errors import Conflict

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

audit_segments = sa.Table(
    "audit_segments",
    metadata,
    sa.Column("id", _BIG, primary_key=True, autoincrement=False),
    sa.Column("first", sa.BigInteger, nullable=False),  # the index of its first entry
    sa.Column("entries", sa.BigInteger, nullable=False),
    sa.Column("stage", sa.Integer, nullable=False),
    sa.Column("redactions", sa.BigInteger, nullable=False),  # how often marked since it was opened
    sa.Column("minimum_time", sa.BigInteger, nullable=False),  # microseconds since the epoch
    sa.Column("maximum_time", sa.BigInteger, nullable=False),
    sa.Column("times", sa.Text, nullable=False),  # JSON: audit.index.building.Built.times
    sa.Column("named", sa.Text, nullable=False),  # JSON: audit.index.building.Values
)

audit_postings = sa.Table(
    "audit_postings",
    metadata,
    sa.Column("segment", _BIG, primary_key=True, autoincrement=False),
    sa.Column("block", _BIG, primary_key=True, autoincrement=False),
    sa.Column("lists", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Blocks of lists (audit.index.blocks) by the leading bits of their keys."""


class Stage(IntEnum):
    """How far a segment is; queries read those that are published."""

    opened = 0
    published = 1
    retired = 2


@dataclass(frozen=True, slots=True)
class Segment:
    """`entries` consecutive entries of the log, beginning with `first`; times in microseconds."""

    id: int
    first: int
    entries: int
    stage: Stage = Stage.published
    redactions: int = 0
    minimum_time: int = 0
    maximum_time: int = 0

    @property
    def stop(self) -> int:
        """Return the index behind its last entry."""
        return self.first + self.entries


@dataclass(frozen=True, slots=True)
class Opening:
    """Begins a segment; `id` is of no other, not even of one that is gone."""

    id: int
    first: int
    entries: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """Writes blocks of an opened segment: those from number `start` on; Conflict if it is none."""

    segment: int
    start: int
    blocks: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Publication:
    """Lets queries see the segment of `opening`, and no longer those in `replaces`.

    Conflict if it is not as it was opened, if entries of it were redacted since, if others than
    those that it replaces have some of them, or if these are not as they were read.
    """

    opening: Opening
    times: Sequence[int]
    values: Values
    replaces: Sequence[Segment] = ()


@dataclass(frozen=True, slots=True)
class Removal:
    """Removes segments and their blocks."""

    segments: Sequence[int]


class _OpeningSink:
    first = staticmethod(lock_log)

    def write(self, connection: sa.Connection, records: Sequence[Opening]) -> None:
        lock_log(connection)
        bulk_insert(
            connection,
            audit_segments,
            [(r.id, r.first, r.entries, int(Stage.opened), 0, 0, 0, "[]", "{}") for r in records],
        )


class _BlocksSink:
    def write(self, connection: sa.Connection, records: Sequence[Blocks]) -> None:
        for record in records:
            _check_opened(connection, record.segment)
            numbered = enumerate(record.blocks, start=record.start)
            rows = [(record.segment, number, block) for number, block in numbered]
            bulk_insert(connection, audit_postings, rows)


def _check_opened(connection: sa.Connection, segment: int) -> None:
    c = audit_segments.c
    opened = sa.select(c.id).where(c.id == segment, c.stage == Stage.opened)
    if connection.execute(opened).one_or_none() is None:
        raise Conflict(f"segment {segment} of the index was removed while it was written")


class _PublicationSink:
    first = staticmethod(lock_log)

    def write(self, connection: sa.Connection, records: Sequence[Publication]) -> None:
        lock_log(connection)
        for record in records:
            _retire(connection, record.replaces)
            _check_alone(connection, record.opening)
            _publish(connection, record)


def _retire(connection: sa.Connection, segments: Sequence[Segment]) -> None:
    c = audit_segments.c
    for segment in segments:
        retired = connection.execute(
            audit_segments.update()
            .where(c.id == segment.id, c.stage == Stage.published)
            .where(c.redactions == segment.redactions)
            .values(stage=int(Stage.retired))
        )
        if retired.rowcount != 1:
            raise Conflict(f"segment {segment.id} of the index is not what it was")


def _check_alone(connection: sa.Connection, opening: Opening) -> None:
    c = audit_segments.c
    among = sa.select(c.id).where(
        c.stage == Stage.published,
        c.first < opening.first + opening.entries,
        c.first + c.entries > opening.first,
    )
    if other := connection.execute(among.limit(1)).scalar():
        raise Conflict(f"segment {other} of the index has entries of segment {opening.id} already")


def _publish(connection: sa.Connection, record: Publication) -> None:
    c, opening = audit_segments.c, record.opening
    published = connection.execute(
        audit_segments.update()
        .where(c.id == opening.id, c.first == opening.first, c.entries == opening.entries)
        .where(c.stage == Stage.opened, c.redactions == 0)
        .values(
            stage=int(Stage.published),
            minimum_time=min(record.times),
            maximum_time=max(record.times),
            times=orjson.dumps(list(record.times)).decode(),
            named=orjson.dumps(dict(record.values)).decode(),
        )
    )
    if published.rowcount != 1:
        message = f"entries of segment {opening.id} were redacted meanwhile, or it was removed"
        raise Conflict(message)


class _RemovalSink:
    first = staticmethod(lock_log)

    def write(self, connection: sa.Connection, records: Sequence[Removal]) -> None:
        lock_log(connection)
        ids = [number for record in records for number in record.segments]
        connection.execute(audit_postings.delete().where(audit_postings.c.segment.in_(ids)))
        connection.execute(audit_segments.delete().where(audit_segments.c.id.in_(ids)))


INDEX_SINKS: Final[Mapping[type, Sink]] = MappingProxyType(
    {
        Opening: _OpeningSink(),
        Blocks: _BlocksSink(),
        Publication: _PublicationSink(),
        Removal: _RemovalSink(),
    }
)


def mark_for_rebuild(connection: sa.Connection, first: int, count: int) -> None:
    """Have the segments of `count` entries from `first` on built again, from what the log holds.

    Call it in the transaction that redacts bodies, under the lock of the log. The replica that
    keeps the index does the rest; until then queries check what they find against the log.
    """
    c = audit_segments.c
    connection.execute(
        audit_segments.update()
        .where(c.first < first + count, c.first + c.entries > first)
        .values(redactions=c.redactions + 1)
    )


def read_segments(connection: sa.Connection) -> list[Segment]:
    """Return every segment, in the order of the log."""
    c = audit_segments.c
    columns = (c.id, c.first, c.entries, c.stage, c.redactions, c.minimum_time, c.maximum_time)
    rows = connection.execute(sa.select(*columns).order_by(c.first, c.id))
    return [Segment(r[0], r[1], r[2], Stage(r[3]), *r[4:]) for r in rows]


def read_blocks(
    connection: sa.Connection, segments: Sequence[int], blocks: Sequence[int]
) -> dict[tuple[int, int], bytes]:
    """Return the blocks of these numbers in these segments, by segment and number."""
    rows = connection.exec_driver_sql(
        "SELECT segment, block, lists FROM audit_postings"  # noqa: S608  # numbers
        f" WHERE segment IN ({numbers(segments)}) AND block IN ({numbers(blocks)})"
    )
    return {(segment, block): bytes(lists) for segment, block, lists in rows.all()}


def read_times(connection: sa.Connection, segments: Sequence[int]) -> dict[int, list[int]]:
    """Return the `times` of segments, by segment."""
    return {number: orjson.loads(text) for number, text in _column(connection, "times", segments)}


def read_values(connection: sa.Connection, segments: Sequence[int]) -> dict[int, Values]:
    """Return the `values` of segments, by segment."""
    return {number: orjson.loads(text) for number, text in _column(connection, "named", segments)}


def _column(connection: sa.Connection, name: str, segments: Sequence[int]) -> Sequence[Any]:
    return connection.exec_driver_sql(
        f"SELECT id, {name} FROM audit_segments WHERE id IN ({numbers(segments)})"  # noqa: S608
    ).all()


def numbers(values: Iterable[int]) -> str:
    """Return `values` as they stand in the text of a statement; never empty.

    As parameters, hundreds of them take longer on their way to PostgreSQL than what they ask for.
    """
    return ", ".join(str(int(value)) for value in values) or "NULL"
