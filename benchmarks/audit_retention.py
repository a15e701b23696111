"""Retention, backup and restore of the audit log, on SQLite on this disk.

The large log is `benchmarks.audit_corpus`: a dry run over its old half, and redaction of the first
of what is due while others append. What is backed up and restored is a log with a real tree.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.backup.pack import Backup
from audit.backup.restore import Terms, restore
from audit.checkpoint import Checkpoint
from audit.checkpoints import Kept, KeptSink
from audit.entry import Entry
from audit.log import EntrySink, Log
from audit.note import Note, SigningKey
from audit.retention.expiry import Expired, preview
from audit.retention.redaction import BATCH, Candidate, Redact, RedactionSink
from audit.retention.rules import Rules
from benchmarks import audit_corpus
from benchmarks.figure import Context, Row, Target
from meshca.clock import SystemClock
from meshca.database import open_engine
from meshca.schema import migrate

TITLE = "Retention of the audit log"
ORIGIN = "example.org/meshca/audit"
KEEP = timedelta(days=15)
BATCHES = 200
GROUP = 64


def run(context: Context) -> Iterator[Row]:
    """Look at what is due in a large log, redact some; back a smaller one up and restore it."""
    with tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory:
        yield from _retention(Path(directory), context.scale(1_000_000, 50_000))
    with tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory:
        yield from _backup(Path(directory), context.scale(200_000, 4_096))


def _opened(path: Path) -> sa.Engine:
    engine = open_engine(f"sqlite:///{path}")
    migrate(engine)
    return engine


def _retention(directory: Path, count: int) -> Iterator[Row]:
    path = directory / "meshca.db"
    engine = _opened(path)
    audit_corpus.write(engine, 0, count)
    end_us = audit_corpus.START_US + count * audit_corpus.STEP_US
    half = timedelta(microseconds=count * audit_corpus.STEP_US // 2)
    keep = max(KEEP, timedelta(days=1))
    now = datetime.fromtimestamp(end_us / 1_000_000, UTC) + keep - half
    rules = Rules(kinds={"read": keep, "refusal": keep})
    yield Row("log on disk", path.stat().st_size / count, "bytes/entry", note=f"{count:,} entries")
    started = time.perf_counter()
    due = sum(preview(engine, rules, now).due.values())
    yield Row("dry run over its old half", time.perf_counter() - started, "s", note=f"{due:,} due")
    yield from _redaction(engine, rules, now)
    wal = path.with_name("meshca.db-wal").stat().st_size
    yield Row("write-ahead log after that", wal / 2**20, "MiB")
    engine.dispose()


def _redaction(engine: sa.Engine, rules: Rules, now: datetime) -> Iterator[Row]:
    held, appended, redacted = [], [], 0
    sink = RedactionSink()
    for batch in islice(_batches(engine, rules, now), BATCHES):
        record = Redact(now, batch, rules.cutoffs(now), rules.as_text())
        started = time.perf_counter()
        with _writing(engine) as connection, connection.begin():
            sink.write(connection, [record])
        held.append(time.perf_counter() - started)
        redacted += len(batch)
        started = time.perf_counter()
        with _writing(engine) as connection, connection.begin():
            EntrySink().append(connection, [_entry(n) for n in range(GROUP)])
        appended.append(time.perf_counter() - started)
    yield Row("redaction", redacted / sum(held), "entries/s")
    yield Row("others wait for a batch, p99", _p99(held), "ms", target=Target(500, False))
    yield Row(f"append {GROUP} entries between batches, p99", _p99(appended), "ms")


def _batches(engine: sa.Engine, rules: Rules, now: datetime) -> Iterator[tuple[Candidate, ...]]:
    for page in Expired(engine, rules, now).pages():
        bare = [replace(one, body=None) for one in page.due]
        for start in range(0, len(bare), BATCH):
            yield tuple(bare[start : start + BATCH])


def _backup(directory: Path, count: int) -> Iterator[Row]:
    engine, other = (_opened(directory / name) for name in ("meshca.db", "other.db"))
    key = SigningKey(ORIGIN, Ed25519PrivateKey.generate())
    for _ in range(0, count, 4_096):
        with _writing(engine) as connection, connection.begin():
            EntrySink().append(connection, [_entry(n) for n in range(4_096)])
    head = Log(engine).head()
    text = str(Checkpoint(ORIGIN, head.size, head.root))
    now = SystemClock().now()
    with _writing(engine) as connection, connection.begin():
        KeptSink().write(
            connection, [Kept(ORIGIN, head.size, now, str(Note(text, (key.sign(text),))))]
        )
    started = time.perf_counter()
    content = b"".join(Backup(engine, ORIGIN, now).chunks())
    yield Row("backup", head.size / (time.perf_counter() - started), "entries/s")
    yield Row("backup on disk", len(content) / head.size, "bytes/entry")
    terms = Terms(
        keys=(key.verifier,),
        origin=ORIGIN,
        signs_as=ORIGIN,
        actor="uid:0",
        reason="benchmark",
        now=now,
    )
    started = time.perf_counter()
    restore(other, io.BytesIO(content), terms)
    yield Row("restore, verified", head.size / (time.perf_counter() - started), "entries/s")
    for opened in (engine, other):
        opened.dispose()


def _entry(number: int) -> Entry:
    return Entry(
        time=datetime(2026, 11, 1, 12, 0, 0, number, tzinfo=UTC),
        kind="issuance",
        outcome="done",
        actor="spiffe://example.org/ns/shop/sa/orders",
        spiffe_id="spiffe://example.org/ns/shop/sa/orders",
        serial=f"{number:032x}",
        fingerprint=f"{number:064x}",
        cluster="prod-eu",
        namespace="shop",
        service_account="orders",
        details={"authority": "ab" * 20, "key_sha256": f"{number:064x}", "not_after": 1},
    )


def _writing(engine: sa.Engine) -> sa.Connection:
    return engine.connect().execution_options(meshca_writes=True)


def _p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] * 1_000 if len(seconds) > 1 else 0.0
