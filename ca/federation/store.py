"""The federated trust domains: one row each, with the last good bundle, kept over restarts.

A domain that was removed keeps its row, without roots, so that a name that proxies once asked for
still has an answer: one that trusts nobody. Bundles never replace a newer one: the sink compares.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import sqlalchemy as sa

from meshca.database import Sink, metadata
from meshca.errors import StoreUnavailable

Profile = Literal["https_web", "https_spiffe"]
ACTIVE: Final = "active"
REMOVED: Final = "removed"

federated_domains = sa.Table(
    "federated_domains",
    metadata,
    sa.Column("trust_domain", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("changed_at", sa.BigInteger, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("profile", sa.Text, nullable=False),
    sa.Column("endpoint_id", sa.Text, nullable=False),
    sa.Column("web_roots", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=True),
    sa.Column("document", sa.LargeBinary, nullable=True),
    sa.Column("fetched_at", sa.BigInteger, nullable=True),
)


@dataclass(frozen=True, slots=True)
class Relation:
    """How another trust domain's bundle is had.

    `endpoint_id` is the SPIFFE ID that an `https_spiffe` endpoint must show; `web_roots` (PEM)
    takes the place of the system's roots for `https_web`. Both are empty where they mean nothing.
    """

    trust_domain: str
    url: str
    profile: Profile
    endpoint_id: str = ""
    web_roots: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """One row: `document` is the last good bundle as it was received, `fetched_at` when."""

    relation: Relation
    status: str
    changed_at: datetime
    sequence: int | None = None
    document: bytes | None = None
    fetched_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A good bundle of an active domain, as it was received under the relation made at `since`."""

    trust_domain: str
    since: datetime
    sequence: int | None
    document: bytes
    fetched_at: datetime


class StoredSink:
    """Writes rows whole: a domain is added, changed or removed."""

    def write(self, connection: sa.Connection, records: Sequence[Stored]) -> None:
        """Replace one row a record, in their order."""
        column = federated_domains.c.trust_domain
        for record in records:
            name = record.relation.trust_domain
            connection.execute(sa.delete(federated_domains).where(column == name))
            connection.execute(sa.insert(federated_domains), _row(record))


class ReceivedSink:
    """Writes bundles; one older than the row's, or of a relation of before, changes nothing."""

    def write(self, connection: sa.Connection, records: Sequence[Received]) -> None:
        """Update one row a record."""
        table = federated_domains.c
        for record in records:
            newer: sa.ColumnElement[bool] = table.sequence.is_(None)
            if record.sequence is not None:
                newer = newer | (table.sequence <= record.sequence)
            connection.execute(
                sa.update(federated_domains)
                .where(
                    table.trust_domain == record.trust_domain,
                    table.status == ACTIVE,
                    table.changed_at == int(record.since.timestamp()),
                    newer,
                )
                .values(
                    sequence=record.sequence,
                    document=record.document,
                    fetched_at=int(record.fetched_at.timestamp()),
                )
            )


FEDERATION_SINKS: Final[Mapping[type, Sink]] = {Stored: StoredSink(), Received: ReceivedSink()}


def read_all(engine: sa.Engine) -> list[Stored]:
    """Return every row, removed domains included; raises StoreUnavailable."""
    query = sa.select(federated_domains).order_by(federated_domains.c.trust_domain)
    try:
        with engine.connect() as connection:
            return [_stored(row) for row in connection.execute(query)]
    except sa.exc.SQLAlchemyError as error:
        raise StoreUnavailable(f"federated trust domains cannot be read: {error}") from error


def _row(record: Stored) -> dict[str, object]:
    relation = record.relation
    return {
        "trust_domain": relation.trust_domain,
        "status": record.status,
        "changed_at": int(record.changed_at.timestamp()),
        "url": relation.url,
        "profile": relation.profile,
        "endpoint_id": relation.endpoint_id,
        "web_roots": relation.web_roots,
        "sequence": record.sequence,
        "document": record.document,
        "fetched_at": int(record.fetched_at.timestamp()) if record.fetched_at else None,
    }


def _stored(row: sa.Row[tuple[object, ...]]) -> Stored:
    r = row._mapping
    return Stored(
        relation=Relation(
            r["trust_domain"], r["url"], r["profile"], r["endpoint_id"], r["web_roots"]
        ),
        status=r["status"],
        changed_at=datetime.fromtimestamp(r["changed_at"], UTC),
        sequence=r["sequence"],
        document=None if r["document"] is None else bytes(r["document"]),
        fetched_at=_time(r["fetched_at"]),
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
