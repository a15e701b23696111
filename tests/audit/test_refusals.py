"""Refusals are recorded at a bounded rate, and what is over is counted, never lost."""

import asyncio
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from audit.query import Query, find
from audit.refusals import OTHER, RefusalRecorder
from audit.verify import verify
from meshca.metrics import Metrics
from tests.audit.test_log import entry
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of


def refusal(reason: str = "expired") -> object:
    return entry(1, kind="refusal", outcome="refused", reason=reason)


def unrecorded(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("meshca_refusals_unrecorded_total") or 0.0


def kinds(engine: sa.Engine) -> list[str]:
    return [found.body["kind"] for found in find(engine, Query(oldest_first=True))]


def test_a_burst_is_recorded_and_the_rest_becomes_one_gap(tmp_path: Path) -> None:
    clock, metrics = FakeClock(), Metrics()

    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            recorder = RefusalRecorder(writer, clock, metrics, entries_per_second=2, burst=3)
            for number in range(10):
                recorder.record(refusal("expired" if number % 2 else "audience"))  # type: ignore[arg-type]
            await recorder.flush()
            await recorder.flush()

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert kinds(engine) == ["refusal"] * 3 + ["gap"]
        gap = find(engine, Query(kind="gap"))[0].body
        verify(engine)
    assert gap["details"] == {
        "what": "refusal",
        "unrecorded": 7,
        "by_reason": {"audience": 3, "expired": 4},
        "since": "2026-11-01T12:00:00+00:00",
    }
    assert unrecorded(metrics) == 7


def test_time_lets_entries_through_again(tmp_path: Path) -> None:
    clock = FakeClock()

    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            recorder = RefusalRecorder(writer, clock, Metrics(), entries_per_second=2, burst=1)
            recorder.record(entry(1))
            recorder.record(entry(2))
            clock.jump(timedelta(days=1))
            recorder.record(entry(3))
            clock.advance(timedelta(milliseconds=500))
            recorder.record(entry(4))

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert [f.body["serial"] for f in find(engine, Query(oldest_first=True))] == ["1", "4"]


def test_counts_survive_a_database_that_refuses_them(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            recorder = RefusalRecorder(writer, FakeClock(), Metrics(), burst=0)
            recorder.record(entry(1, reason="expired"))
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO away")
            await recorder.flush()
            recorder.record(entry(2, reason="expired"))
            with engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_entries")
            await recorder.flush()

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert [f.body["details"]["by_reason"] for f in find(engine, Query())] == [{"expired": 2}]


def test_a_stopped_writer_loses_no_count(tmp_path: Path) -> None:
    metrics = Metrics()
    with sqlite_engine(tmp_path) as engine:
        recorder = RefusalRecorder(writer_of(engine), FakeClock(), metrics)
        recorder.record(entry(1))
    assert unrecorded(metrics) == 1


def test_reasons_are_bounded(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            recorder = RefusalRecorder(writer, FakeClock(), Metrics(), burst=0)
            for number in range(500):
                recorder.record(entry(1, reason=f"invented-{number}"))
            await recorder.flush()

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        by_reason = find(engine, Query())[0].body["details"]["by_reason"]
    assert len(by_reason) == 101
    assert by_reason[OTHER] == 400
