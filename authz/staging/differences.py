"""What a staged change would have changed, from the decisions that were recorded meanwhile.

Each decision is recorded with the verdict of what was on trial where that differs. Here they are
counted by who did what to whom, in the database: callers choose how many operations there are.
What could not be recorded is in `authz.records.decisions.lost`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from authz.records.operation import Operation
from authz.records.tables import ALLOW, minutes, records
from meshca.database import reading

MAXIMUM_SHOWN: Final = 100
"""Operations that are shown one by one; all of them are counted."""
_OPERATION: Final = (
    *("source", "destination", "namespace", "labels", "protocol"),
    *("port", "method", "path", "host"),
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One operation that the change would newly deny, or newly allow, and how often it was seen."""

    is_denial: bool
    operation: Operation
    count: int
    first: datetime
    last: datetime
    example: int


@dataclass(frozen=True, slots=True)
class Differences:
    """Every difference since the change is on trial: in numbers, and the most frequent ones."""

    newly_denied: int
    newly_allowed: int
    operations: int
    shown: tuple[Difference, ...]


def read_differences(engine: sa.Engine, since: datetime) -> Differences:
    """Return the differences recorded since then; raises StoreUnavailable."""
    c = records.c
    key: list[sa.ColumnElement[Any]] = [c[name] for name in (*_OPERATION, "shadow")]
    count = sa.func.count().label("count")
    spans = (sa.func.min(c.at_us).label("first"), sa.func.max(c.at_us).label("last"))
    columns: list[sa.ColumnElement[Any]] = [*key, count, *spans, sa.func.max(c.id).label("example")]
    each = (
        sa.select(*columns)
        .where(c.shadow != "", c.at_us >= (since - _EPOCH) // timedelta(microseconds=1))
        .group_by(*key)
    )
    inner = each.subquery()
    totals = sa.select(inner.c.shadow, sa.func.count(), sa.func.sum(inner.c["count"]))
    with reading(engine) as connection:
        shown = connection.execute(each.order_by(count.desc(), *key).limit(MAXIMUM_SHOWN)).all()
        sums = connection.execute(totals.group_by(inner.c.shadow)).all()
    return Differences(
        newly_denied=sum(int(times) for shadow, _, times in sums if shadow != ALLOW),
        newly_allowed=sum(int(times) for shadow, _, times in sums if shadow == ALLOW),
        operations=sum(int(operations) for _, operations, _ in sums),
        shown=tuple(map(_difference, shown)),
    )


def last_record(engine: sa.Engine, namespaces: Collection[str]) -> datetime | None:
    """Return when a decision about one of `namespaces` was last recorded, or None.

    Decisions are counted by the minute: those of the minute under way are not there yet.
    """
    newest = sa.select(sa.func.max(minutes.c.last_us)).where(minutes.c.namespace.in_(namespaces))
    with reading(engine) as connection:
        found = connection.execute(newest).scalar()
    return None if found is None else _EPOCH + timedelta(microseconds=int(found))


def _difference(row: sa.Row[Any]) -> Difference:
    r = row._mapping
    return Difference(
        is_denial=r["shadow"] != ALLOW,
        operation=Operation(**{name: r[name] for name in _OPERATION}),
        count=int(r["count"]),
        first=_EPOCH + timedelta(microseconds=int(r["first"])),
        last=_EPOCH + timedelta(microseconds=int(r["last"])),
        example=int(r["example"]),
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
