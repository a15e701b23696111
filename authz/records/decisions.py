"""Reading decision records.

Reads the database, so off the event loop; every reader raises StoreUnavailable when the database
does not answer. What could not be kept is a gap, and `lost` says how many: whoever concludes
something from what is not here has to look there first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa

from authz.records.operation import Operation, Protocol, parse_labels
from authz.records.tables import DENY, Outcome, gaps, microseconds, minutes, records
from authz.request import Request
from meshca.database import reading
from meshca.errors import RequestRefused

MAXIMUM_LIMIT: Final = 1_000
_PAGE: Final = 1_000
_OPERATION: Final = (
    *("source", "destination", "namespace", "labels", "protocol"),
    *("port", "method", "path", "host"),
)


@dataclass(frozen=True, slots=True)
class Distinct:
    """One operation that was decided in one way, how often, and from when to when.

    What records do not keep (headers, claims, addresses) is unknown in `request`.
    """

    operation: Operation
    outcome: Outcome
    count: int
    first: datetime
    last: datetime

    @property
    def source(self) -> str:
        """Return the peer's SPIFFE ID, empty without one."""
        return self.operation.source

    @property
    def namespace(self) -> str:
        """Return the destination's namespace."""
        return self.operation.namespace

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the destination's labels."""
        return parse_labels(self.operation.labels)

    @property
    def port(self) -> int | None:
        """Return the destination's port."""
        return self.operation.port

    @property
    def protocol(self) -> Protocol:
        """Return `http` or `tcp`."""
        return self.operation.protocol

    @property
    def method(self) -> str | None:
        """Return the method; None on TCP."""
        return self.operation.method

    @property
    def path(self) -> str | None:
        """Return the path without query; None on TCP."""
        return self.operation.path

    @property
    def host(self) -> str | None:
        """Return the host; None on TCP."""
        return self.operation.host

    @property
    def allowed(self) -> bool:
        """Return whether it was allowed."""
        return self.outcome.allowed

    @property
    def is_whole(self) -> bool:
        """Return False where method, path and host stand for many: `(other)`."""
        return self.operation.is_whole

    def request(self) -> Request:
        """Return the request; decide it under another set to compare."""
        return self.operation.request()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One decision in full; `number` orders them, and is the cursor of pages."""

    number: int
    at: datetime
    operation: Operation
    outcome: Outcome
    door: str
    reason: str
    sni: str
    source_ip: str
    remote_ip: str
    shadow: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DecisionQuery:
    """Which decisions; None means any. `destination` is a SPIFFE ID or a namespace.

    `since` is inclusive. `cursor` is the number of the last one of the page before. Raises
    RequestRefused for a limit out of bounds or an unknown verdict.
    """

    since: datetime | None = None
    verdict: str | None = None
    source: str | None = None
    destination: str | None = None
    policy: str | None = None
    limit: int = 100
    cursor: int | None = None

    def __post_init__(self) -> None:
        if self.verdict not in (None, "allow", "deny"):
            raise RequestRefused("unknown_verdict", "verdict is allow or deny")
        if not 1 <= self.limit <= MAXIMUM_LIMIT:
            raise RequestRefused("limit", f"limit must be from 1 to {MAXIMUM_LIMIT}")


@dataclass(frozen=True, slots=True)
class Decisions:
    """Every decision that was kept."""

    engine: sa.Engine

    def distinct(
        self,
        since: datetime,
        *,
        until: datetime | None = None,
        namespace: str | None = None,
        source: str | None = None,
    ) -> Iterator[Distinct]:
        """Yield each distinct decided request of that time once, in a stable order, with its count.

        Counted by the minute: `since` and `until` take in the whole minutes that they fall into.
        The minute under way is not there yet.
        """
        with reading(self.engine) as connection:
            streamed = connection.execution_options(yield_per=_PAGE)
            for row in streamed.execute(_distinct(since, until, namespace, source)):
                yield _to_distinct(row._mapping)

    def find(self, query: DecisionQuery) -> list[Recorded]:
        """Return the decisions in full that `query` asks for, newest first."""
        with reading(self.engine) as connection:
            rows = connection.execute(_select(query)).all()
        return [_to_recorded(row._mapping) for row in rows]

    def denials(
        self, since: datetime, *, namespace: str | None = None, limit: int = 100
    ) -> list[Recorded]:
        """Return the newest denials since then, at most `limit`."""
        query = DecisionQuery(since=since, verdict=DENY, destination=namespace, limit=limit)
        return self.find(query)

    def shadow_differences(
        self, since: datetime, *, namespace: str | None = None, limit: int = 100
    ) -> list[Recorded]:
        """Return the newest decisions that what was on trial then would have reversed."""
        query = DecisionQuery(since=since, destination=namespace, limit=limit)
        with reading(self.engine) as connection:
            rows = connection.execute(_select(query).where(records.c.shadow != "")).all()
        return [_to_recorded(row._mapping) for row in rows]

    def lost(self, since: datetime) -> Mapping[str, int]:
        """Return how many decisions since then were not kept, by reason; empty when all were."""
        total = sa.func.sum(gaps.c.count)
        query = sa.select(gaps.c.reason, total).group_by(gaps.c.reason).order_by(gaps.c.reason)
        with reading(self.engine) as connection:
            rows = connection.execute(query.where(gaps.c.at_us >= microseconds(since))).all()
        return {reason: int(count) for reason, count in rows}


def beginning_of_minute(time: datetime) -> int:
    """Return the minute that `time` falls into, in seconds since the epoch."""
    return int(time.timestamp()) // 60 * 60


def _distinct(
    since: datetime, until: datetime | None, namespace: str | None, source: str | None
) -> sa.Select[Any]:
    c = minutes.c
    key = [c[name] for name in (*_OPERATION, "verdict", "policy", "rule")]
    counted = (
        sa.func.sum(c.count).label("count"),
        sa.func.min(c.first_us).label("first_us"),
        sa.func.max(c.last_us).label("last_us"),
    )
    select = sa.select(*key, *counted).where(c.minute >= beginning_of_minute(since))
    if until is not None:
        select = select.where(c.minute <= beginning_of_minute(until))
    if namespace is not None:
        select = select.where(c.namespace == namespace)
    if source is not None:
        select = select.where(c.source == source)
    return select.group_by(*key).order_by(*key)


def _select(query: DecisionQuery) -> sa.Select[Any]:
    c = records.c
    select = sa.select(records).order_by(c.id.desc()).limit(query.limit)
    for name in ("verdict", "source", "policy"):
        if (value := getattr(query, name)) is not None:
            select = select.where(c[name] == value)
    if query.destination is not None:
        is_identity = query.destination.startswith("spiffe://")
        column = c.destination if is_identity else c.namespace
        select = select.where(column == query.destination)
    if query.since is not None:
        select = select.where(c.at_us >= microseconds(query.since))
    return select if query.cursor is None else select.where(c.id < query.cursor)


def _operation(row: sa.RowMapping) -> Operation:
    return Operation(**{name: row[name] for name in _OPERATION})


def _outcome(row: sa.RowMapping) -> Outcome:
    return Outcome(row["verdict"] != DENY, row["policy"], row["rule"])


def _time(microseconds_: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds_)


def _to_distinct(row: sa.RowMapping) -> Distinct:
    return Distinct(
        operation=_operation(row),
        outcome=_outcome(row),
        count=int(row["count"]),
        first=_time(row["first_us"]),
        last=_time(row["last_us"]),
    )


def _to_recorded(row: sa.RowMapping) -> Recorded:
    return Recorded(
        number=row["id"],
        at=_time(row["at_us"]),
        operation=_operation(row),
        outcome=_outcome(row),
        **{name: row[name] for name in ("door", "reason", "sni", "source_ip", "remote_ip")},
        shadow=row["shadow"],
        details=orjson.loads(row["details"]),
    )
