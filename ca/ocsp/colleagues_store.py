"""The tables through which replicas let each other answer OCSP requests.

Each replica says which public key it answers with; whoever holds an authority's key certifies the
keys of the others for it. No private key is ever in a table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ca.revocation.store import instant, seconds
from meshca.change_feed import announce
from meshca.database import Sink, metadata, reading

OCSP_CHANGED: Final = "ocsp"
"""The kind of change that replicas hear of when one answers with a new key, or was certified."""

responders = sa.Table(
    "ocsp_responders",
    metadata,
    sa.Column("replica", sa.Text, primary_key=True),
    sa.Column("public_key", sa.LargeBinary, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
)
delegations = sa.Table(
    "ocsp_delegations",
    metadata,
    sa.Column("authority_id", sa.Text, primary_key=True),
    sa.Column("key_sha256", sa.Text, primary_key=True),
    sa.Column("issuer", sa.LargeBinary, nullable=False),
    sa.Column("certificate", sa.LargeBinary, nullable=False),
    sa.Column("not_after", sa.BigInteger, nullable=False),
)


@dataclass(frozen=True, slots=True)
class ResponderSeen:
    """The replica `replica` answers with the key `public_key` (DER)."""

    replica: str
    public_key: bytes = field(repr=False)
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class Delegation:
    """`certificate` lets the holder of a key answer for an authority, `issuer`; both are DER."""

    authority_id: str
    key_sha256: str
    issuer: bytes = field(repr=False)
    certificate: bytes = field(repr=False)
    not_after: datetime


class ResponderSink:
    """Writes which replica answers with which key, and who does no longer."""

    def write(self, connection: sa.Connection, records: Sequence[ResponderSeen]) -> None:
        """Insert or update one row each; others hear of another key only."""
        for seen in records:
            query = sa.select(responders.c.public_key).where(responders.c.replica == seen.replica)
            before = connection.execute(query).scalar()
            values = {"public_key": seen.public_key, "seen_at": seconds(seen.seen_at)}
            _upsert(connection, responders, {"replica": seen.replica}, values)
            if before == seen.public_key:
                continue
            if before is not None:  # it has started again: nobody has the key of before
                ended = delegations.c.key_sha256 == key_hash(before)
                connection.execute(sa.delete(delegations).where(ended))
            announce(connection, OCSP_CHANGED)


class DelegationSink:
    """Writes who was certified."""

    def write(self, connection: sa.Connection, records: Sequence[Delegation]) -> None:
        """Insert or update one row each."""
        for one in records:
            key = {"authority_id": one.authority_id, "key_sha256": one.key_sha256}
            values = {
                "issuer": one.issuer,
                "certificate": one.certificate,
                "not_after": seconds(one.not_after),
            }
            _upsert(connection, delegations, key, values)
        announce(connection, OCSP_CHANGED)


COLLEAGUES_SINKS: Final[Mapping[type, Sink]] = {
    ResponderSeen: ResponderSink(),
    Delegation: DelegationSink(),
}


def _upsert(
    connection: sa.Connection,
    table: sa.Table,
    key: Mapping[str, object],
    values: Mapping[str, object],
) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=values))


def key_hash(public_key: bytes) -> str:
    """Return how a responder's key (DER) is named."""
    return sha256(public_key).hexdigest()


@dataclass(frozen=True, slots=True)
class Colleagues:
    """Reads of both tables."""

    engine: sa.Engine

    def responders(self, since: datetime) -> list[ResponderSeen]:
        """Return who was seen at `since` or later; raises StoreUnavailable."""
        query = sa.select(responders).where(responders.c.seen_at >= seconds(since))
        with reading(self.engine) as connection:
            rows = connection.execute(query.order_by(responders.c.replica)).mappings().all()
        return [ResponderSeen(r["replica"], r["public_key"], instant(r["seen_at"])) for r in rows]

    def delegations(self, now: datetime) -> list[Delegation]:
        """Return everybody's certificates that have not ended; raises StoreUnavailable."""
        query = sa.select(delegations).where(delegations.c.not_after > seconds(now))
        with reading(self.engine) as connection:
            rows = connection.execute(query).mappings().all()
        return [
            Delegation(
                r["authority_id"],
                r["key_sha256"],
                r["issuer"],
                r["certificate"],
                instant(r["not_after"]),
            )
            for r in rows
        ]
