"""Packing the log: one reading of the database, from the first entry to the newest checkpoint.

Rules. Everything is read in one snapshot, so that redactions meanwhile do not show. It ends at the
newest checkpoint; a redaction that no checkpoint covers yet would be missing, so it is waited for.
What is read is verified on the way: of a log that does not lead to its checkpoint, nothing is
called a backup. Holds and keys are those that the entries say, whatever the database says. On
SQLite the write-ahead log grows while it is read; nobody waits for it.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

import sqlalchemy as sa

from audit.backup.companions import companion_rows
from audit.backup.form import ENTRY, HEADER, REDACTED, ROW, Header, Packer, canonical
from audit.backup.told import Told
from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.checkpoints import audit_checkpoints
from audit.merkle import Frontier
from audit.note import parse_note
from audit.retention.coverage import REDACTION, Coverage
from audit.tree import audit_entries
from meshca.errors import EvidenceBroken, StoreUnavailable

_PAGE: Final = 2_000


@dataclass(slots=True)
class Backup:
    """One backup of the log `origin`; `chunks` may be gone through once, off the event loop."""

    engine: sa.Engine
    origin: str
    made_at: datetime
    checkpoint: Checkpoint | None = None
    _packer: Packer = field(default_factory=Packer)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the backup.

        Raises StoreUnavailable when the database does not answer, or no checkpoint covers the
        newest redaction yet; EvidenceBroken when the log is not what its checkpoint says.
        """
        try:
            with snapshot(self.engine) as connection:
                for chunk in self._chunks(connection):
                    if chunk:
                        yield chunk
        except sa.exc.SQLAlchemyError as error:
            raise StoreUnavailable("the database does not answer") from error

    def _chunks(self, connection: sa.Connection) -> Iterator[bytes]:
        note = _newest_note(connection, self.origin)
        self.checkpoint = parse_checkpoint(parse_note(note).text)
        size = self.checkpoint.size
        _check_redactions(connection, size)
        header = Header(self.origin, size, note, self.made_at.isoformat())
        yield self._packer.pack(HEADER, canonical(header.as_json()))
        told = Told()
        yield from self._entries(connection, self.checkpoint, told)
        for row in companion_rows(connection, size, told):
            yield self._packer.pack(ROW, canonical(row))
        yield self._packer.end()

    def _entries(
        self, connection: sa.Connection, checkpoint: Checkpoint, told: Told
    ) -> Iterator[bytes]:
        frontier, coverage = Frontier(), Coverage()
        while frontier.size < checkpoint.size:
            start = frontier.size
            rows = _page(connection, start, min(start + _PAGE, checkpoint.size))
            for index, row in enumerate(rows, start):
                body = _checked_leaf(index, row)
                if body is None or row.kind == REDACTION:
                    coverage.heed(index, row.kind, body)
                if body is not None:
                    told.heed(index, body)
                yield self._pack(row)
            if not rows:
                raise EvidenceBroken(start, f"entry {start} is missing, and all after it")
            frontier, _ = frontier.extended(bytes(row.leaf_hash) for row in rows)
        if frontier.root() != checkpoint.root:
            raise EvidenceBroken(0, "the entries do not lead to their checkpoint: run audit verify")
        coverage.check()

    def _pack(self, row: sa.Row[Any]) -> bytes:
        if row.body is not None:
            return self._packer.pack(ENTRY, row.body.encode())
        left = {
            "index": row.leaf_index,
            "time": row.time,
            "kind": row.kind,
            "leaf_hash": bytes(row.leaf_hash).hex(),
        }
        return self._packer.pack(REDACTED, canonical(left))


@contextlib.contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Yield a connection that sees the database as it is now, until it is closed."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


def _newest_note(connection: sa.Connection, origin: str) -> str:
    c = audit_checkpoints.c
    query = sa.select(c.note).where(c.origin == origin).order_by(c.size.desc()).limit(1)
    note = connection.execute(query).scalar_one_or_none()
    if note is None:
        raise StoreUnavailable(f"no checkpoint of {origin} was signed yet: nothing to back up to")
    return str(note)


def _check_redactions(connection: sa.Connection, size: int) -> None:
    """Raise StoreUnavailable if bodies are gone whose redaction no checkpoint covers yet."""
    c = audit_entries.c
    query = sa.select(c.leaf_index).where(c.leaf_index >= size, c.kind == REDACTION).limit(1)
    if connection.execute(query).first() is not None:
        raise StoreUnavailable("no checkpoint covers the newest redaction yet; try again")


def _page(connection: sa.Connection, start: int, stop: int) -> list[sa.Row[Any]]:
    c = audit_entries.c
    query = sa.select(audit_entries).where(c.leaf_index >= start, c.leaf_index < stop)
    return list(connection.execute(query.order_by(c.leaf_index)))


def _checked_leaf(index: int, row: sa.Row[Any]) -> bytes | None:
    if row.leaf_index != index:
        raise EvidenceBroken(index, f"entry {index} is missing: {row.leaf_index} is next")
    body = _encoded(row.body)
    if body is not None and sha256(b"\x00" + body).digest() != bytes(row.leaf_hash):
        raise EvidenceBroken(index, f"the hash of entry {index} does not match its body")
    return body


def _encoded(body: str | None) -> bytes | None:
    return None if body is None else body.encode()
