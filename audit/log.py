"""The audit log: append-only entries, each chained to the one before by hash.

    hash(n) = SHA-256(hash(n-1) || body(n)),  hash(0) = SHA-256("meshca audit log v1")

`body` is canonical JSON (sorted keys, no spaces, schema `"v":1`) and holds the sequence, so an
entry cannot be changed, moved, removed or inserted without every later hash changing. The other
columns repeat parts of the body for queries; `verify` compares them too.

Rules. Entries are appended by `EntrySink`, inside the transaction of what they speak of. The head
is read inside that transaction under a lock (SQLite: the writer's BEGIN IMMEDIATE; PostgreSQL: an
advisory lock), so several processes can append to one log. No entry can poison the log: text that
JSON or the database cannot hold is replaced, and what is too long is clipped.

Not here: whoever can rewrite the whole table can rewrite the chain, and cutting off the newest
entries leaves a chain that verifies. Signed checkpoints are what ends that; they replace what is
behind `Log`, whose three parts (`sink`, `head`, `verify`) stay.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from audit.entry import Entry
from audit.text import storable
from meshca.database import bulk_insert, metadata
from meshca.errors import EvidenceBroken

SCHEMA_VERSION: Final = 1
GENESIS: Final = hashlib.sha256(b"meshca audit log v1").digest()
MAXIMUM_BODY_BYTES: Final = 64 * 1024
_COLUMNS: Final = (
    "time",
    "kind",
    "outcome",
    "spiffe_id",
    "serial",
    "cluster",
    "namespace",
    "pod",
)
_LOCK: Final = 0x6D657368_6C6F67  # "meshlog": any constant, the same in every process
_PAGE: Final = 1_000

audit_entries = sa.Table(
    "audit_entries",
    metadata,
    sa.Column(
        "sequence",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("time", sa.BigInteger, nullable=False, index=True),  # microseconds since the epoch
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("spiffe_id", sa.Text, nullable=False, index=True),
    sa.Column("serial", sa.Text, nullable=False, index=True),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("namespace", sa.Text, nullable=False),
    sa.Column("pod", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends: the last sequence (0: nothing was ever logged) and the chain's hash."""

    sequence: int
    hash: bytes


class EntrySink:
    """Appends entries, in their order, to the chain."""

    def write(self, connection: sa.Connection, records: Sequence[Entry]) -> None:
        """Append `records`; one read and one insert for all of them."""
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        bulk_insert(connection, audit_entries, _chain(_head(connection), records))


@dataclass(frozen=True, slots=True)
class Log:
    """The log as its readers see it."""

    engine: sa.Engine

    def sink(self) -> EntrySink:
        """Return what appends to this log, for the process's GroupWriter."""
        return EntrySink()

    def head(self) -> Head:
        """Return where the log ends now."""
        with self.engine.connect() as connection:
            return _head(connection)

    def verify(self) -> Head:
        """Check every entry from the first to the last and return the head they lead to.

        Raises EvidenceBroken, naming the first entry that is not as it was written. It reads the
        whole log: call it off the event loop.
        """
        head = Head(0, GENESIS)
        for row in self._rows():
            head = _checked(head, row)
        return head

    def _rows(self) -> Iterator[sa.RowMapping]:
        last = -1
        while True:
            page = sa.select(audit_entries).order_by(audit_entries.c.sequence).limit(_PAGE)
            with self.engine.connect() as connection:
                rows = connection.execute(page.where(audit_entries.c.sequence > last)).all()
            if not rows:
                return
            for row in rows:
                yield row._mapping
            last = rows[-1].sequence


def _head(connection: sa.Connection) -> Head:
    query = "SELECT sequence, hash FROM audit_entries ORDER BY sequence DESC LIMIT 1"
    row = connection.exec_driver_sql(query).one_or_none()
    return Head(0, GENESIS) if row is None else Head(row[0], bytes(row[1]))


def _chain(head: Head, entries: Sequence[Entry]) -> list[tuple[Any, ...]]:
    sequence, digest = head.sequence, head.hash
    rows = []
    for entry in entries:
        sequence += 1
        entry, body = _body(entry, sequence)
        digest = hashlib.sha256(digest + body).digest()
        rows.append(
            (
                sequence,
                _microseconds(entry.time),
                entry.kind,
                entry.outcome,
                entry.spiffe_id,
                entry.serial,
                entry.cluster,
                entry.namespace,
                entry.pod,
                body.decode(),
                digest,
            )
        )
    return rows


def _body(entry: Entry, sequence: int) -> tuple[Entry, bytes]:
    """Return the canonical JSON of `entry`, and the entry itself as that JSON holds it."""
    try:
        body = _canonical(entry, sequence)
    except (TypeError, ValueError):  # a lone surrogate, a huge integer, endless nesting
        body = b""
    if not body or len(body) > MAXIMUM_BODY_BYTES or b"\\u0000" in body:
        entry = storable(entry)
        body = _canonical(entry, sequence)
    return entry, body


def _canonical(entry: Entry, sequence: int) -> bytes:
    document: dict[str, Any] = {
        "v": SCHEMA_VERSION,
        "sequence": sequence,
        "time": entry.time,
        "kind": entry.kind,
        "outcome": entry.outcome,
        "actor": entry.actor,
        "spiffe_id": entry.spiffe_id,
        "serial": entry.serial,
        "cluster": entry.cluster,
        "namespace": entry.namespace,
        "service_account": entry.service_account,
        "pod": entry.pod,
        "node": entry.node,
        "reason": entry.reason,
        "details": dict(entry.details),
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def _checked(previous: Head, row: sa.RowMapping) -> Head:
    """Return the head after `row`; raises EvidenceBroken when it does not follow `previous`."""
    expected = previous.sequence + 1
    if row["sequence"] != expected:
        raise EvidenceBroken(expected, f"entry {expected} is missing: {row['sequence']} is next")
    digest = hashlib.sha256(previous.hash + row["body"].encode()).digest()
    if digest != bytes(row["hash"]):
        raise EvidenceBroken(expected, f"the hash of entry {expected} does not match its body")
    body = orjson.loads(row["body"])
    if body["sequence"] != expected:
        raise EvidenceBroken(expected, f"entry {expected} says that it is {body['sequence']}")
    repeated = {**body, "time": _microseconds(datetime.fromisoformat(body["time"]))}
    for name in _COLUMNS:
        if row[name] != repeated[name]:
            raise EvidenceBroken(expected, f"column {name} of entry {expected} differs from it")
    return Head(expected, digest)


def _microseconds(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)
