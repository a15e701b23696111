"""Questions to an audit log of ten million entries, on SQLite and on PostgreSQL.

A million entries (benchmarks/audit_corpus.py) are written straight into the tables and indexed by
the service's own indexer; the log is made eleven times as long by copies of them, and of the index;
then come as many small segments as there can be, and entries of none. Questions are asked one at a
time, for a page of a hundred, of values drawn from the whole log; times are wall time, as whoever
asks waits. The caches are as warm as the questions before have left them.
"""

import asyncio
import contextlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import sqlalchemy as sa

from audit.index.building import LARGE, SMALL
from audit.index.indexer import Indexer
from audit.index.tables import INDEX_SINKS, audit_postings
from audit.log import Log
from audit.query import Query, count, find, group
from audit.tree import audit_entries
from benchmarks import audit_corpus
from benchmarks.audit_questions import questions, write_inventory
from benchmarks.figure import Context, Row, Target
from meshca.clock import SystemClock
from meshca.database import GroupWriter, open_engine
from meshca.metrics import Metrics
from meshca.name_locks import open_name_locks
from meshca.schema import migrate
from meshca.service import calm_collector
from tests.stores import postgresql

TITLE = "Queries of the audit log"
TARGET: Final = Target(100.0, is_minimum=False)
QUESTION: Final = Target(200.0, is_minimum=False)
WRITTEN: Final = 15 * LARGE
COPIES: Final = 11
TAIL: Final = 63 * SMALL + 1_000
KEYS: Final = (
    *("serial", "fingerprint", "spiffe_id", "pod", "request_id", "namespace", "node"),
    *("service_account", "cluster", "policy", "destination", "kind", "outcome", "actor", "reason"),
)
_STEP: Final = 2**18


def run(context: Context) -> Iterator[Row]:
    """Measure on a database of each kind."""
    for kind, opened in (("SQLite", _sqlite), ("PostgreSQL", _postgresql)):
        with opened() as engine:
            yield from measure(context, engine, kind)


@contextlib.contextmanager
def _sqlite() -> Iterator[sa.Engine]:
    with tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory:
        yield from _opened(f"sqlite:///{Path(directory) / 'meshca.db'}")


@contextlib.contextmanager
def _postgresql() -> Iterator[sa.Engine]:
    with postgresql() as server:
        yield from _opened(server.url)


def _opened(url: str) -> Iterator[sa.Engine]:
    engine = open_engine(url)
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()


def measure(context: Context, engine: sa.Engine, where: str) -> Iterator[Row]:
    """Write the corpus and its index, and ask."""
    calm_collector()
    written, copies = context.scale(WRITTEN, LARGE), context.scale(COPIES, 2)
    _write(context, engine, f"{where}: the log", 0, written)
    yield _indexed(engine, where, written)
    audit_corpus.repeat(engine, written, copies)
    entries = written * copies + context.scale(TAIL, 2 * SMALL + 1_000)
    _write(context, engine, f"{where}: its end", written * copies, entries)
    asyncio.run(_index(engine))
    _analyze(engine)
    yield _size(engine, where, entries)
    times = context.scale(100, 20)
    with context.progress(f"{where}: questions", len(KEYS) * times) as advance:
        for number, key in enumerate(KEYS):
            queries = _queries(engine, key, entries, times)
            yield _asked(engine, f"{where}, {entries:,}: by {key}", queries)
            advance((number + 1) * times)
    yield from _questions(context, engine, f"{where}, {entries:,}", written, entries)
    since = Query(kind="refusal", namespace="team-003")
    for what, ask in (
        ("entries of one kind and namespace counted", lambda: count(engine, since)),
        ("all entries counted by namespace", lambda: group(engine, Query(), "namespace")),
    ):
        yield _row(f"{where}, {entries:,}: {what}", [_timed(ask) for _ in range(5)])


def _questions(
    context: Context, engine: sa.Engine, where: str, written: int, entries: int
) -> Iterator[Row]:
    certificates = write_inventory(engine, written)
    _analyze(engine)
    for what, asked in questions(context, engine, entries):
        times = [_timed(ask) for ask in list(asked)]
        yield _row(f"{where}, {certificates:,} certificates: {what}", times, QUESTION)


def _write(context: Context, engine: sa.Engine, what: str, start: int, stop: int) -> None:
    with context.progress(what, stop - start) as advance:
        for first in range(start, stop, _STEP):
            audit_corpus.write(engine, first, min(first + _STEP, stop))
            advance(first + _STEP - start)


def _indexed(engine: sa.Engine, where: str, entries: int) -> Row:
    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(_index(engine))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Row(
        f"{where}: index made of {entries:,}",
        entries / cpu,
        "entries/s per core",
        note=f"{cpu / entries * 1e6:.0f} µs CPU each; {entries / wall:,.0f}/s wall",
    )


async def _index(engine: sa.Engine) -> None:
    async with GroupWriter(engine, INDEX_SINKS, SystemClock(), Metrics()) as writer:
        locks = open_name_locks(engine)
        try:
            indexer = Indexer(log=Log(engine), writer=writer, locks=locks, metrics=Metrics())
            await indexer.look()
        finally:
            locks.close()


def _analyze(engine: sa.Engine) -> None:
    if engine.dialect.name == "postgresql":  # as autovacuum does
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(
                "ANALYZE audit_postings, audit_entries, audit_segments, certificates"
            )


def _size(engine: sa.Engine, where: str, entries: int) -> Row:
    with engine.connect() as connection:
        lists = sa.func.sum(sa.func.length(audit_postings.c.lists))
        index = connection.execute(sa.select(lists)).scalar_one()
        bodies = sa.func.sum(sa.func.length(audit_entries.c.body))
        sample = audit_entries.c.leaf_index < min(entries, 100_000)
        body = connection.execute(sa.select(bodies).where(sample)).scalar_one()
    note = f"beside {body / min(entries, 100_000):.0f} B of body"
    return Row(f"{where}: index of an entry", index / entries, "B", note=note)


def _queries(engine: sa.Engine, key: str, entries: int, times: int) -> Iterator[Query]:
    """Yield queries for values of `key` that entries of the log have, anywhere in it."""
    choose = random.Random(key)  # noqa: S311  # a benchmark, no secret
    made = 0
    while made < times:
        start = choose.randrange(max(entries - 64, 1))
        bodies = [stored.document() or {} for stored in Log(engine).entries(start, start + 64)]
        if values := [body[key] for body in bodies if body[key]]:
            made += 1
            found: dict[str, Any] = {key: choose.choice(values)}
            yield Query(**found)


def _asked(engine: sa.Engine, what: str, queries: Iterator[Query]) -> Row:
    asked = list(queries)
    return _row(what, [_timed(partial(find, engine, query)) for query in asked], TARGET)


def _timed(ask: Callable[[], object]) -> tuple[float, float]:
    """Return the milliseconds by the clock, and those of our own CPU time."""
    wall, cpu = time.perf_counter(), time.thread_time()
    ask()
    return (time.perf_counter() - wall) * 1e3, (time.thread_time() - cpu) * 1e3


def _row(what: str, asked: list[tuple[float, float]], target: Target | None = None) -> Row:
    times = [wall for wall, _ in asked]
    p99 = quantiles(times, n=100, method="inclusive")[98]
    note = (
        f"median {median(times):.1f} ms, worst {max(times):.0f} ms of {len(times)}; "
        f"{median(cpu for _, cpu in asked):.1f} ms of our CPU, p99 "
        f"{quantiles([cpu for _, cpu in asked], n=100, method='inclusive')[98]:.1f}"
    )
    return Row(what, p99, "ms p99", target=target, note=note)
