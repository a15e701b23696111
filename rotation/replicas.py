"""The tables of replicas: who runs, what each reports, and which workloads have what is waited for.

A row is membership: written at start, removed when the process ends or, if it was killed, by
another replica once its name has been free for a while (rotation/membership.py). As long as the
row is there, gates wait for what it reports; a replica that has not reported holds them.

Confirmations are acknowledgements that any replica has seen; they are deleted when nobody waits for
the root or the authority any more.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
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
    "confirmations",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("holder", sa.Text, primary_key=True),
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Which of one replica's connected proxies are waited for; `more` were not named."""

    missing: Sequence[Missing] = ()
    more: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What one replica tells the others.

    `signing`: the authority it signs with, or "". `leaves`: credentials it holds, by authority.
    `waiting`: for each root or authority that is waited for and in the bundle it pushes, whom for.
    """

    signing: str = ""
    leaves: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)


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
    """A replica is not there any more, unless it was seen since `seen_at` (None: whenever)."""

    name: str
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The workloads `holders` have the root, or the list of the authority, of that name."""

    name: str
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
            delete = sa.delete(replicas).where(replicas.c.name == gone.name)
            if gone.seen_at is not None:
                delete = delete.where(replicas.c.seen_at == int(gone.seen_at.timestamp()))
            connection.execute(delete)
        announce(connection, REPLICAS_CHANGED)


class ConfirmedSink:
    """Writes which workloads have what is waited for."""

    def write(self, connection: sa.Connection, records: Sequence[Confirmed]) -> None:
        """Insert one row a workload, unless it is there or nobody waits for it any more."""
        rows = [
            {"name": confirmed.name, "holder": holder}
            for confirmed in records
            for holder in sorted(confirmed.holders)
        ]
        if rows:
            connection.execute(_CONFIRM, rows)


_CONFIRM: Final = sa.text(
    "INSERT INTO confirmations (name, holder) SELECT :name, :holder WHERE"
    " EXISTS (SELECT 1 FROM roots WHERE root_sha256 = :name AND stage = 'announced')"
    " OR EXISTS (SELECT 1 FROM authorities WHERE authority_id = :name"
    " AND stage IN ('published', 'active')) ON CONFLICT DO NOTHING"
)
_UPSERT: Final = sa.text(
    "INSERT INTO replicas (name, host, version, started_at, seen_at, report)"
    " VALUES (:name, :host, :version, :started_at, :seen_at, :report)"
    " ON CONFLICT (name) DO UPDATE SET host = excluded.host, version = excluded.version,"
    " started_at = excluded.started_at, seen_at = excluded.seen_at, report = excluded.report"
)


def _what_others_wait_for(report: str) -> tuple[Any, Any]:
    document = orjson.loads(report)
    return document["signing"], document["waiting"]


def forget_confirmations(connection: sa.Connection, name: str) -> None:
    """Delete who has `name`: nobody waits for it any more."""
    connection.execute(sa.delete(confirmations).where(confirmations.c.name == name))


@dataclass(frozen=True, slots=True)
class Replicas:
    """Reads of both tables."""

    engine: sa.Engine

    def all(self) -> list[Replica]:
        """Return every replica, by name."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(replicas).order_by(replicas.c.name))
            return [_replica(row) for row in rows]

    def confirmed(self, name: str) -> set[str]:
        """Return the holders that are known to have what is called `name`, wherever it was seen."""
        query = sa.select(confirmations.c.holder).where(confirmations.c.name == name)
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
        "waiting": {
            name: {"missing": list(waiting.missing), "more": waiting.more}
            for name, waiting in report.waiting.items()
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
            name: Waiting(tuple(_missing(m) for m in waiting["missing"]), waiting["more"])
            for name, waiting in document["waiting"].items()
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
    """Return what a replica has reported; fields that only a newer version knows are left out."""
    known = {name: value for name, value in stored.items() if name in _MISSING_FIELDS}
    for name in ("since", "until"):
        if known.get(name) is not None:
            known[name] = datetime.fromisoformat(known[name])
    return Missing(**known)


_MISSING_FIELDS: Final = frozenset(f.name for f in fields(Missing))


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
