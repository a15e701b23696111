"""A real log, signed as the service signs it, and exports of it."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint
from audit.checkpoints import Kept, KeptSink
from audit.entry import Entry
from audit.export.verify import Trust, Verdict, verify_export
from audit.export.writing import plan, write
from audit.log import EntrySink, Log
from audit.note import COSIGNATURE, Note, SigningKey, VerifierKey
from audit.tree import audit_entries
from tests.audit.export.entries import TIME, an_entry
from tests.stores import sqlite_engine

ORIGIN = "example.org/meshca/audit"


def a_key(name: str = ORIGIN) -> SigningKey:
    """Return a new key of the log."""
    return SigningKey(name, Ed25519PrivateKey.generate())


def a_witness(name: str = "witness.example") -> SigningKey:
    """Return the key of a new witness."""
    return SigningKey(name, Ed25519PrivateKey.generate(), COSIGNATURE)


def introduces(key: SigningKey, stage: str = "active") -> Entry:
    """Return what the log says when `key` comes or goes."""
    details = {"verifier": str(key.verifier), "origin": ORIGIN, "stage": stage}
    return Entry(TIME, "log_key", "done", "meshca", reason="rotated", details=details)


@dataclass
class LogWorld:
    """A log of its own, and what signs it."""

    engine: sa.Engine
    key: SigningKey

    @property
    def log(self) -> Log:
        """Return the log."""
        return Log(self.engine)

    def append(self, *entries: Entry) -> None:
        """Append `entries` in one transaction."""
        with self.engine.connect().execution_options(meshca_writes=True) as c, c.begin():
            EntrySink().append(c, entries)

    def fill(self, count: int) -> None:
        """Append so many issuances."""
        start = self.log.head().size
        self.append(*(an_entry(number=number) for number in range(start, start + count)))

    def sign(self, *keys: SigningKey, witnesses: Sequence[SigningKey] = ()) -> str:
        """Sign the log as it is, keep the checkpoint, and return it."""
        head = self.log.head()
        text = str(Checkpoint(ORIGIN, head.size, head.root))
        signatures = [key.sign(text) for key in keys or (self.key,)]
        cosigned = [w.sign(text, time_seconds=1_790_000_000) for w in witnesses]
        note = str(Note(text, (*signatures, *cosigned)))
        kept = Kept(ORIGIN, head.size, TIME + timedelta(seconds=head.size), note)
        with self.engine.connect().execution_options(meshca_writes=True) as c, c.begin():
            KeptSink().write(c, [kept])
        return note

    def redact(self, *indexes: int) -> None:
        """Let the bodies of entries go, as retention does."""
        blank = sa.update(audit_entries).where(audit_entries.c.leaf_index.in_(indexes))
        with self.engine.connect().execution_options(meshca_writes=True) as c, c.begin():
            c.execute(blank.values(body=None))

    def export(self, **asked: Any) -> bytes:
        """Return an export."""
        return b"".join(write(self.log, plan(self.log, origin=ORIGIN, version="0.1.0", **asked)))

    def verify(self, export: bytes, *keys: VerifierKey, witnesses: Sequence[Any] = ()) -> Verdict:
        """Return what `export` proves to who trusts `keys`, by default the log's."""
        trust = Trust(keys or (self.key.verifier,), witnesses)
        return verify_export(io.BytesIO(export), trust)


@contextmanager
def log_world(directory: Path) -> Iterator[LogWorld]:
    """Yield an empty log."""
    with sqlite_engine(directory) as engine:
        yield LogWorld(engine, a_key())
