"""Writing decision records, and deleting what is old."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from authz.records.operation import Operation
from authz.records.tables import (
    FullRecord,
    Gap,
    MinuteCount,
    Outcome,
    gaps,
    microseconds,
    minutes,
    records,
)
from meshca.database import Sink, bulk_insert

ROWS_AT_ONCE: Final = 500


class FullRecordSink:
    """Writes decisions in full."""

    def write(self, connection: sa.Connection, records_: Sequence[FullRecord]) -> None:
        """Insert one row each."""
        bulk_insert(connection, records, [_full_row(r) for r in records_])


class MinuteCountSink:
    """Writes counts of minutes."""

    def write(self, connection: sa.Connection, counts: Sequence[MinuteCount]) -> None:
        """Insert one row each."""
        bulk_insert(connection, minutes, [_minute_row(c) for c in counts])


class GapSink:
    """Writes gaps."""

    def write(self, connection: sa.Connection, gaps_: Sequence[Gap]) -> None:
        """Insert one row each."""
        rows = [(microseconds(g.at), microseconds(g.since), g.reason, g.count) for g in gaps_]
        bulk_insert(connection, gaps, rows)


@dataclass(frozen=True, slots=True)
class Expired:
    """Decision records from before `before` are to go, at most `rows` of each table."""

    before: datetime
    rows: int = ROWS_AT_ONCE


class ExpiredSink:
    """Deletes old decision records."""

    def write(self, connection: sa.Connection, expired: Sequence[Expired]) -> None:
        """Delete what is older, oldest first, within the bound."""
        for each in expired:
            for table, column, before in due(each.before):
                old = sa.select(table.c.id).where(column < before).order_by(column)
                chosen = old.limit(each.rows).scalar_subquery()
                connection.execute(sa.delete(table).where(table.c.id.in_(chosen)))


DECISION_SINKS: Final[Mapping[type, Sink]] = {
    FullRecord: FullRecordSink(),
    MinuteCount: MinuteCountSink(),
    Gap: GapSink(),
    Expired: ExpiredSink(),
}


def due(before: datetime) -> list[tuple[sa.Table, sa.Column[int], int]]:
    """Return each table, its column of time, and the bound below which rows are from before."""
    bound = microseconds(before)
    return [
        (records, records.c.at_us, bound),
        (minutes, minutes.c.minute, bound // 1_000_000),
        (gaps, gaps.c.at_us, bound),
    ]


def _operation_row(operation: Operation, outcome: Outcome) -> tuple[Any, ...]:
    return (
        operation.source,
        operation.destination,
        operation.namespace,
        operation.labels,
        operation.protocol,
        operation.port,
        operation.method,
        operation.path,
        operation.host,
        outcome.verdict,
        outcome.policy,
        outcome.rule,
    )


def _full_row(r: FullRecord) -> tuple[Any, ...]:
    return (
        microseconds(r.at),
        *_operation_row(r.operation, r.outcome),
        *(r.sni, r.source_ip, r.remote_ip, r.door, r.shadow, r.reason, r.details),
    )


def _minute_row(c: MinuteCount) -> tuple[Any, ...]:
    return (
        c.minute,
        *_operation_row(c.operation, c.outcome),
        *(c.count, microseconds(c.first), microseconds(c.last)),
    )
