"""The audit log: appending in groups, full verification, proofs; SQLite on this disk.

Entries are those of issuance, which are most of a log. A group is one transaction with the fsync
of a commit; a checkpoint is signed and kept once a second, as the service does.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.checkpoint import Checkpoint
from audit.entry import Entry
from audit.log import EntrySink, Log, body_of
from audit.merkle import Frontier, leaf_hash, verify_inclusion
from audit.note import SigningKey
from audit.verify import Verification, verify
from benchmarks.figure import Context, Row, Target
from meshca.database import MAXIMUM_GROUP, open_engine
from meshca.schema import migrate

TITLE = "The audit log"
ORIGIN = "example.org/meshca/audit"
CHECKPOINT_SECONDS = 1.0
PROOFS = 500


def run(context: Context) -> Iterator[Row]:
    """Append many groups, verify all of it, and prove some."""
    count = context.scale(1_000_000, 20_480)
    entries = [_entry(number) for number in range(MAXIMUM_GROUP)]
    yield _encoding(entries)
    with tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory:
        engine = open_engine(f"sqlite:///{Path(directory, 'meshca.db')}")
        migrate(engine)
        yield from _append(engine, entries, count // MAXIMUM_GROUP)
        size = Path(directory, "meshca.db").stat().st_size
        yield Row("on disk", size / Log(engine).head().size, "bytes/entry")
        yield from _verification(engine)
        yield _proofs(engine)
        engine.dispose()


def _entry(number: int) -> Entry:
    return Entry(
        time=datetime(2026, 11, 1, 12, 0, 0, number, tzinfo=UTC),
        kind="issuance",
        outcome="done",
        actor="spiffe://example.org/ns/shop/sa/orders",
        spiffe_id="spiffe://example.org/ns/shop/sa/orders",
        serial=f"{number:032x}",
        cluster="prod-eu",
        namespace="shop",
        service_account="orders",
        pod=f"orders-6d4cf56db6-{number:05d}",
        node="node-17.eu-central-1.compute.internal",
        details={
            "method": "kubernetes",
            "issuer": "https://kubernetes.default.svc",
            "service_account_uid": "0b0e8a3c-5f0d-4f0a-8a3c-0b0e8a3c5f0d",
            "pod_uid": f"5f0d7f0a-0b0e-4f0a-8a3c-{number:012d}",
            "token_id": f"7e0c7a52-0b0e-4f0a-8a3c-{number:012d}",
            "authority": "5c1d" * 8,
            "key_sha256": "ab" * 32,
            "not_before": 1_793_000_000,
            "not_after": 1_793_003_600,
        },
    )


def _encoding(entries: Sequence[Entry]) -> Row:
    """Return what an entry costs before any database: canonical JSON, its leaf, the tree."""
    rounds, frontier = 40, Frontier()
    started = time.process_time()
    for _ in range(rounds):
        bodies = [body_of(entry, n, "00" * 16)[1] for n, entry in enumerate(entries)]
        frontier, _nodes = frontier.extended(leaf_hash(body) for body in bodies)
        frontier.root()
    spent = time.process_time() - started
    return Row("encode and hash, no database", rounds * len(entries) / spent, "entries/s per core")


def _append(engine: sa.Engine, entries: Sequence[Entry], groups: int) -> Iterator[Row]:
    sink, key = EntrySink(), SigningKey(ORIGIN, Ed25519PrivateKey.generate())
    signed, due = 0, time.perf_counter() + CHECKPOINT_SECONDS
    wall, cpu = time.perf_counter(), time.process_time()
    with engine.connect().execution_options(meshca_writes=True) as connection:
        for _ in range(groups):
            with connection.begin():
                sink.append(connection, entries)
            if time.perf_counter() >= due:
                head = Log(engine).head()
                key.sign(str(Checkpoint(ORIGIN, head.size, head.root)))
                signed, due = signed + 1, time.perf_counter() + CHECKPOINT_SECONDS
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    count = groups * len(entries)
    yield Row(
        f"append in groups of {len(entries)}, checkpoints included",
        count / cpu,
        "entries/s per core",
        target=Target(20_000),
        note=f"{count:,} entries, {signed} checkpoints, durable",
    )
    yield Row("the same by the clock, with the disk", count / wall, "entries/s")


def _verification(engine: sa.Engine) -> Iterator[Row]:
    started = time.process_time()
    size = verify(engine).size
    rate = size / (time.process_time() - started)
    yield Row("full verification, one process", rate, "entries/s per core")
    workers = os.cpu_count() or 1
    started = time.perf_counter()
    Verification(engine, workers=workers).run()
    yield Row(
        f"full verification by the clock, {workers} processes",
        size / (time.perf_counter() - started),
        "entries/s",
        target=Target(200_000),
    )


def _proofs(engine: sa.Engine) -> Row:
    log, random = Log(engine), Random(1)  # noqa: S311  # picks entries, no secrets
    head = log.head()
    spent = []
    for _ in range(PROOFS):
        index = random.randrange(head.size)
        started = time.perf_counter()
        proof = log.inclusion_proof(index, head.size)
        spent.append((time.perf_counter() - started) * 1000)
        (entry,) = log.get([index])
        if not verify_inclusion(index, head.size, entry.leaf_hash, proof, head.root):
            raise RuntimeError(f"the proof of entry {index} does not verify")
    p99 = statistics.quantiles(spent, n=100)[98]
    return Row("proof of one entry, p99", p99, "ms", target=Target(10, is_minimum=False))
