"""The tables of replicas: who runs, what each reports, and which workloads have an announced root.

A row is membership: written at start, removed when the process ends or, if it was killed, by
another replica once its name has been free for a while (rotation/membership.py). As long as the
row is there, gates wait for what it reports; a replica that has not reported holds them.

Confirmations are acknowledgements that any replica has seen; they are deleted when the root is not
waited for any more.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from meshca.change_feed import announce
from meshca.database import metadata, reading
from rotation.propagation import Missing

REPLICAS_CHANGED: Final = "replicas"
MAXIMUM_REPORTED: Final = 2_000
"""Workloads a replica names for one root; of the others it tells the number."""

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

replicas = sa.Table(
    "replicas",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("started_at", _BIG, nullable=False),
    sa.Column("seen_at", _BIG, nullable=False),
    sa.Column("report", sa.Text, nullable=False),
)
confirmations = sa.Table(
    "root_confirmations",
    metadata,
    sa.Column("root_sha256", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whom one replica's connected proxies a root waits for; `more` were not named."""

    missing: Sequence[Missing] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica tells the others.

    `signing`: the authority it signs with, or "". `leaves`: credentials it holds, by authority.
    `roots`: for each announced root that is in the bundle it pushes, whom it waits for.
    """

    signing: str = ""
    leaves: Mapping[str, int] = field(default_factory=dict)
    roots: Mapping[str, Waiting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Replica:
    """One process: `name` is held by it alone, `seen_at` is by its own clock."""

    name: str
    host: str
    version: str
    started_at: datetime
    seen_at: datetime
    report: Report = Report()


@dataclass(frozen=True, slots=True)
class Seen:
    """A replica is there, and this is its report."""

    replica: Replica


@dataclass(frozen=True, slots=True)
class Gone:
    """A replica is not there any more."""

    name: str


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The workloads `holders` have an announced root."""

    root_sha256: str
    holders: Collection[str]


class SeenSink:
    """Writes what replicas report; the others hear of what may let them go on."""

    def write(self, connection: sa.Connection, records: Sequence[Seen]) -> None:
        """Insert or update one row each."""
        for seen in records:
            values = _values(seen.replica)
            query = sa.select(replicas.c.report).where(replicas.c.name == values["name"])
            before = connection.execute(query).scalar()
            connection.execute(_UPSERT, values)
            if before is None or _what_others_wait_for(before) != _what_others_wait_for(
                values["report"]
            ):
                announce(connection, REPLICAS_CHANGED)


class GoneSink:
    """Removes replicas that are not there any more."""

    def write(self, connection: sa.Connection, records: Sequence[Gone]) -> None:
        """Delete one row each; one that is gone already does no harm."""
        for gone in records:
            connection.execute(sa.delete(replicas).where(replicas.c.name == gone.name))
        announce(connection, REPLICAS_CHANGED)


class ConfirmedSink:
    """Writes which workloads have a root."""

    def write(self, connection: sa.Connection, records: Sequence[Confirmed]) -> None:
        """Insert one row a workload, unless it is there."""
        rows = [
            {"root": confirmed.root_sha256, "holder": holder}
            for confirmed in records
            for holder in sorted(confirmed.holders)
        ]
        if rows:
            connection.execute(_CONFIRM, rows)


_CONFIRM: Final = sa.text(
    "INSERT INTO root_confirmations (root_sha256, holder) VALUES (:root, :holder)"
    " ON CONFLICT DO NOTHING"
)
_UPSERT: Final = sa.text(
    "INSERT INTO replicas (name, host, version, started_at, seen_at, report)"
    " VALUES (:name, :host, :version, :started_at, :seen_at, :report)"
    " ON CONFLICT (name) DO UPDATE SET host = excluded.host, version = excluded.version,"
    " started_at = excluded.started_at, seen_at = excluded.seen_at, report = excluded.report"
)


def _what_others_wait_for(report: str) -> tuple[Any, Any]:
    document = orjson.loads(report)
    return document["signing"], document["roots"]


@dataclass(frozen=True, slots=True)
class Replicas:
    """Reads of both tables."""

    engine: sa.Engine

    def all(self) -> list[Replica]:
        """Return every replica, by name."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(replicas).order_by(replicas.c.name))
            return [_replica(row) for row in rows]

    def confirmed(self, root_sha256: str) -> set[str]:
        """Return the holders that are known to have a root, wherever it was seen."""
        query = sa.select(confirmations.c.holder).where(confirmations.c.root_sha256 == root_sha256)
        with reading(self.engine) as connection:
            return set(connection.execute(query).scalars())


def _values(replica: Replica) -> dict[str, Any]:
    return {
        "name": replica.name,
        "host": replica.host,
        "version": replica.version,
        "started_at": int(replica.started_at.timestamp()),
        "seen_at": int(replica.seen_at.timestamp()),
        "report": _text(replica.report),
    }


def _text(report: Report) -> str:
    document = {
        "signing": report.signing,
        "leaves": report.leaves,
        "roots": {
            root: {"missing": list(waiting.missing), "more": waiting.more}
            for root, waiting in report.roots.items()
        },
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS).decode()


def _replica(row: sa.Row[Any]) -> Replica:
    r = row._mapping
    document = orjson.loads(r["report"])
    report = Report(
        document["signing"],
        document["leaves"],
        {
            root: Waiting(tuple(_missing(m) for m in waiting["missing"]), waiting["more"])
            for root, waiting in document["roots"].items()
        },
    )
    return Replica(
        r["name"],
        r["host"],
        r["version"],
        _instant(r["started_at"]),
        _instant(r["seen_at"]),
        report,
    )


def _missing(stored: Mapping[str, Any]) -> Missing:
    since = stored["since"]
    return Missing(**{**stored, "since": None if since is None else datetime.fromisoformat(since)})


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
