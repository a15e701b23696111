"""The audit log: append-only entries, each a leaf of one Merkle tree (audit/merkle.py).

A leaf's data is the entry's body: canonical JSON (sorted keys, no spaces, schema `"v":2`) with its
own index, and with a salt, so that what was redacted cannot be guessed from its hash. An entry
cannot be changed, moved, removed or inserted without another root; who holds a checkpoint
(audit/checkpoint.py) holds the log to all that went before it.

Rules. Entries are appended by `EntrySink`, inside the transaction of what they speak of. The head
is read inside that transaction under a lock (SQLite: the writer's BEGIN IMMEDIATE; PostgreSQL: an
advisory lock), so several processes can append to one log. A transaction that appends takes that
lock before all others (`lock_log`), so that no two wait for each other. No entry can poison the
log: text that JSON or the database cannot hold is replaced, and what is too long is clipped.
Appending makes no index: what finds entries is made behind it.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from audit import merkle
from audit.entry import Entry
from audit.merkle import leaf_hash
from audit.text import storable
from audit.tree import StoredTree, audit_entries, read_frontier, write_growth
from meshca.database import bulk_insert, reading
from meshca.errors import EvidenceBroken

SCHEMA_VERSION: Final = 2
MAXIMUM_BODY_BYTES: Final = 64 * 1024
SALT_BYTES: Final = 16
_LOCK: Final = 0x6D657368_6C6F67  # "meshlog": any constant, the same in every process
_PAGE: Final = 2_048


@dataclass(frozen=True, slots=True)
class Head:
    """Where the log ends: how many entries it has (`size`), and the root of their tree."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """One entry as it is kept; `body` is the leaf's data, None once it is redacted.

    `time_us` is in microseconds since the epoch.
    """

    index: int
    time_us: int
    kind: str
    leaf_hash: bytes
    body: bytes | None

    def document(self) -> dict[str, Any] | None:
        """Return the body's JSON; None once it is redacted."""
        return None if self.body is None else orjson.loads(self.body)


def lock_log(connection: sa.Connection) -> None:
    """Wait until nobody else appends, in this transaction; SQLite has one writer anyway.

    Call it before any other lock is taken: two that take them in another order wait for each other.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


class EntrySink:
    """Appends entries, in their order."""

    first = staticmethod(lock_log)

    def write(self, connection: sa.Connection, records: Sequence[Entry]) -> None:
        """Append `records`; see `append`."""
        self.append(connection, records)

    def append(self, connection: sa.Connection, entries: Sequence[Entry]) -> range:
        """Append `entries` in the transaction of `connection`; return their indexes.

        Raises EvidenceBroken if the head that is stored is none.
        """
        lock_log(connection)
        before = read_frontier(connection)
        rows = _rows(before.size, entries)
        after, nodes = before.extended(row[3] for row in rows)
        bulk_insert(connection, audit_entries, rows)
        write_growth(connection, after, [(lv, pos, node) for lv, pos, node in nodes])
        return range(before.size, after.size)


@dataclass(frozen=True, slots=True)
class Log:
    """The log as its readers see it; every method reads the database, off the event loop."""

    engine: sa.Engine

    def sink(self) -> EntrySink:
        """Return what appends to this log, for the process's GroupWriter."""
        return EntrySink()

    def head(self) -> Head:
        """Return where the log ends now."""
        with reading(self.engine) as connection:
            frontier = read_frontier(connection)
        return Head(frontier.size, frontier.root())

    def entries(self, start: int = 0, stop: int | None = None) -> Iterator[Stored]:
        """Yield the entries from `start` up to `stop`, in their order, read in pages.

        Raises EvidenceBroken for one whose body is not what was hashed.
        """
        c = audit_entries.c
        while stop is None or start < stop:
            page = sa.select(audit_entries).where(c.leaf_index >= start)
            if stop is not None:
                page = page.where(c.leaf_index < stop)
            with reading(self.engine) as connection:
                rows = connection.execute(page.order_by(c.leaf_index).limit(_PAGE)).all()
            if not rows:
                return
            yield from map(_stored, rows)
            start = rows[-1].leaf_index + 1

    def get(self, indexes: Sequence[int]) -> list[Stored]:
        """Return the entries of `indexes` that there are, in the order of the log.

        Raises EvidenceBroken for one whose body is not what was hashed.
        """
        c = audit_entries.c
        query = sa.select(audit_entries).where(c.leaf_index.in_(list(indexes)))
        with reading(self.engine) as connection:
            return [_stored(row) for row in connection.execute(query.order_by(c.leaf_index))]

    def root_at(self, size: int) -> bytes:
        """Return the root that the log had with `size` entries; raises EvidenceBroken for holes."""
        with reading(self.engine) as connection:
            return merkle.root_at(size, StoredTree(connection).hash_at)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Return the proof that entry `index` is in the log of `size` entries.

        Raises ValueError outside the tree, EvidenceBroken for holes.
        """
        with reading(self.engine) as connection:
            return merkle.inclusion_proof(index, size, StoredTree(connection).hash_at)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """Return the proof that the log of `old` entries begins that of `new`.

        Raises ValueError if `old` is no such beginning, EvidenceBroken for holes.
        """
        with reading(self.engine) as connection:
            return merkle.consistency_proof(old, new, StoredTree(connection).hash_at)


def _stored(row: sa.Row[Any]) -> Stored:
    body = None if row.body is None else checked_body(row.leaf_index, row.body, row.leaf_hash)
    return Stored(row.leaf_index, row.time, row.kind, bytes(row.leaf_hash), body)


def checked_body(index: int, body: str, leaf: bytes) -> bytes:
    """Return the leaf data in a row; raises EvidenceBroken if it is not what was hashed.

    Whoever shows an entry asks this first: what a disk or somebody has garbled is not shown.
    """
    data = body.encode()
    if leaf_hash(data) != bytes(leaf):
        raise hash_differs(index)
    return data


def hash_differs(index: int) -> EvidenceBroken:
    """Return the error of an entry whose body is not what was hashed."""
    return EvidenceBroken(index, f"the hash of entry {index} does not match its body")


def _rows(start: int, entries: Sequence[Entry]) -> list[tuple[Any, ...]]:
    salts = os.urandom(SALT_BYTES * len(entries)).hex()
    length = 2 * SALT_BYTES
    rows = []
    for number, given in enumerate(entries):
        salt = salts[number * length : (number + 1) * length]
        entry, body = body_of(given, start + number, salt)
        time = microseconds(entry.time)
        rows.append((start + number, time, entry.kind, leaf_hash(body), body.decode()))
    return rows


def body_of(entry: Entry, index: int, salt: str) -> tuple[Entry, bytes]:
    """Return the canonical JSON of `entry`, and the entry itself as that JSON holds it."""
    try:
        body = _canonical(entry, index, salt)
    except (TypeError, ValueError):  # a lone surrogate, a huge integer, endless nesting
        body = b""
    if not body or len(body) > MAXIMUM_BODY_BYTES or b"\\u0000" in body:
        entry = storable(entry)
        body = _canonical(entry, index, salt)
    return entry, body


def _canonical(entry: Entry, index: int, salt: str) -> bytes:
    document: dict[str, Any] = {
        "v": SCHEMA_VERSION,
        "index": index,
        "salt": salt,
        "time": entry.time,
        "kind": entry.kind,
        "outcome": entry.outcome,
        "actor": entry.actor,
        "spiffe_id": entry.spiffe_id,
        "serial": entry.serial,
        "fingerprint": entry.fingerprint,
        "cluster": entry.cluster,
        "namespace": entry.namespace,
        "service_account": entry.service_account,
        "pod": entry.pod,
        "node": entry.node,
        "destination": entry.destination,
        "policy": entry.policy,
        "request_id": entry.request_id,
        "reason": entry.reason,
        "details": dict(entry.details),
    }
    return orjson.dumps(document, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)


def microseconds(time: datetime) -> int:
    """Return `time` as the log keeps it."""
    return round(time.timestamp() * 1_000_000)
