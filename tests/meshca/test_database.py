"""The writer that commits in groups: what arrives together is one transaction, and each hears."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.entry import Entry
from audit.index.tables import Opening, Publication, Removal
from audit.log import EntrySink, lock_log
from audit.retention.holds import HoldChange
from audit.retention.redaction import Redact
from ca.store import Filter, Intent, Inventory
from identity.caller import Evidence
from meshca.database import MAXIMUM_GROUP, GroupWriter, Sink, open_engine
from meshca.errors import Overloaded, StoreUnavailable
from meshca.metrics import Metrics
from meshca.schema import migrate
from meshca.wiring_audit import AUDIT_SINKS
from tests.fakes import FakeClock
from tests.stores import SINKS, IntentSink, sqlite_engine, writer_of

NOW = FakeClock().now()


def intent(serial: str) -> Intent:
    return Intent(
        serial=serial,
        spiffe_id="spiffe://example.org/p",
        authority_id="a",
        key_sha256="k",
        not_before=NOW,
        not_after=NOW + timedelta(hours=1),
        evidence=Evidence(method="test"),
    )


def entry(serial: str) -> Entry:
    return Entry(time=NOW, kind="issuance", outcome="done", serial=serial)


def serials(engine: sa.Engine) -> list[str]:
    return sorted(r.intent.serial for r in Inventory(engine).list(Filter(), limit=10_000))


def entries(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM audit_entries").scalar_one())


@dataclass
class GatedSink:
    """Writes intents, but the first group only once the gate is open."""

    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    groups: list[int] = field(default_factory=list)

    def write(self, connection: sa.Connection, records: Sequence[Intent]) -> None:
        self.entered.set()
        self.gate.wait(timeout=10)
        self.groups.append(len(records))
        IntentSink().write(connection, records)


def gated(engine: sa.Engine, sink: GatedSink, *, maximum_pending: int = 1000) -> GroupWriter:
    sinks: dict[type, Sink] = {Intent: sink, Entry: EntrySink()}
    return GroupWriter(engine, sinks, FakeClock(), Metrics(), maximum_pending)


def test_a_submission_is_committed_when_it_returns(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            await writer.submit(intent("a1"), entry("a1"))
            assert serials(engine) == ["a1"]
            assert entries(engine) == 1

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))


def test_what_arrives_while_a_commit_runs_is_the_next_group(tmp_path: Path) -> None:
    sink = GatedSink()

    async def story(engine: sa.Engine) -> None:
        async with gated(engine, sink) as writer:
            first = asyncio.create_task(writer.submit(intent("f")))
            await asyncio.to_thread(sink.entered.wait, 10)
            rest = [asyncio.create_task(writer.submit(intent(f"{n:x}0"))) for n in range(1, 11)]
            await asyncio.sleep(0)
            sink.gate.set()
            await asyncio.gather(first, *rest)

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert len(serials(engine)) == 11
    assert sink.groups == [1, 10]


def test_a_group_is_bounded(tmp_path: Path) -> None:
    sink = GatedSink()

    async def story(engine: sa.Engine) -> None:
        async with gated(engine, sink) as writer:
            tasks = [asyncio.create_task(writer.submit(intent(f"{n:x}"))) for n in range(700)]
            await asyncio.sleep(0)
            sink.gate.set()
            await asyncio.gather(*tasks)

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
    assert max(sink.groups) <= MAXIMUM_GROUP
    assert sum(sink.groups) == 700


def test_a_poisoned_record_fails_alone(tmp_path: Path) -> None:
    sink = GatedSink()

    async def story(engine: sa.Engine) -> list[object]:
        async with gated(engine, sink) as writer:
            first = writer.submit(intent("f"), entry("f"))
            twice = writer.submit(intent("f"), entry("f"))  # the serial is taken
            third = writer.submit(intent("b"), entry("b"))
            tasks = [asyncio.create_task(work) for work in (first, twice, third)]
            await asyncio.sleep(0)
            sink.gate.set()
            return list(await asyncio.gather(*tasks, return_exceptions=True))

    with sqlite_engine(tmp_path) as engine:
        first, twice, third = asyncio.run(story(engine))
        assert (first, third) == (None, None)
        assert isinstance(twice, StoreUnavailable)
        assert "UNIQUE" in str(twice)
        assert serials(engine) == ["b", "f"]
        assert entries(engine) == 2, "nothing of the refused submission is stored"


def test_a_record_that_python_cannot_write_fails_alone(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            with pytest.raises(StoreUnavailable):
                await writer.submit(Intent(*["x"] * 7))  # type: ignore[arg-type]  # the poison
            await writer.submit(intent("a1"))

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert serials(engine) == ["a1"]


def test_too_many_waiting_submissions_are_refused(tmp_path: Path) -> None:
    sink = GatedSink()

    async def story(engine: sa.Engine) -> None:
        async with gated(engine, sink, maximum_pending=2) as writer:
            tasks = [asyncio.create_task(writer.submit(intent(s))) for s in ("a", "b")]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded, match="2 writes already wait"):
                await writer.submit(intent("c"))
            with pytest.raises(Overloaded):
                writer.enqueue(intent("c"))
            sink.gate.set()
            await asyncio.gather(*tasks)
            await writer.submit(intent("d"))

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert serials(engine) == ["a", "b", "d"]


def test_a_record_that_no_sink_writes_is_an_error_and_not_lost(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            with pytest.raises(TypeError, match="no sink writes a str"):
                await writer.submit(intent("a"), "a stray")

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert serials(engine) == []


def test_stopping_commits_what_is_pending(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            for number in range(1, 301):
                writer.enqueue(intent(f"{number:x}"))
        with pytest.raises(StoreUnavailable, match="stopped"):
            writer.enqueue(intent("fff"))

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert len(serials(engine)) == 300


def test_the_metrics_see_groups(tmp_path: Path) -> None:
    metrics = Metrics()

    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine, metrics=metrics) as writer:
            await writer.submit(intent("a"))

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
    sample = metrics.registry.get_sample_value
    assert sample("meshca_commit_group_size_sum") == 1
    assert sample("meshca_pending_writes") == 0


def test_a_read_only_database_refuses_and_loses_nothing(tmp_path: Path) -> None:
    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            with pytest.raises(StoreUnavailable, match="readonly"):
                await writer.submit(intent("a"), entry("a"))

    with sqlite_engine(tmp_path):
        pass
    engine = open_engine(f"sqlite:///file:{tmp_path}/meshca.db?mode=ro&uri=true")
    try:
        asyncio.run(story(engine))
        assert serials(engine) == []
    finally:
        engine.dispose()


def test_a_read_only_database_cannot_be_migrated(tmp_path: Path) -> None:
    empty = open_engine(f"sqlite:///{tmp_path}/meshca.db")
    with empty.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    empty.dispose()
    engine = open_engine(f"sqlite:///file:{tmp_path}/meshca.db?mode=ro&uri=true")
    try:
        with pytest.raises(StoreUnavailable, match=r"cannot migrate.*readonly"):
            migrate(engine)
    finally:
        engine.dispose()


def test_a_full_database_refuses_until_there_is_room_again(tmp_path: Path) -> None:
    def limit(connection: object, _record: object) -> None:
        connection.execute("PRAGMA max_page_count=40")  # type: ignore[attr-defined]  # sqlite3's

    async def story(engine: sa.Engine) -> None:
        async with writer_of(engine) as writer:
            work = [writer.submit(intent(f"{n:x}"), entry("a")) for n in range(1, 400)]
            outcomes = await asyncio.gather(*work, return_exceptions=True)
            refused = [error for error in outcomes if error is not None]
            assert {type(error) for error in refused} == {StoreUnavailable}
            assert "full" in str(refused[-1])
            assert len(serials(engine)) == 399 - len(refused) == entries(engine) > 0
            with engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM certificates")
            await writer.submit(intent("abc"))
            assert serials(engine) == ["abc"]

    with sqlite_engine(tmp_path):
        pass
    engine = open_engine(f"sqlite:///{tmp_path}/meshca.db")
    sa.event.listen(engine, "connect", limit)
    engine.dispose()
    asyncio.run(story(engine))
    engine.dispose()


def test_sqlite_survives_power_loss_by_its_settings(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine, engine.connect() as connection:
        read = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert read == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=f"cannot open sqlite:///{tmp_path}/none/x.db"):
        open_engine(f"sqlite:///{tmp_path}/none/x.db")


def test_a_password_is_never_in_the_message() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        open_engine("postgresql+psycopg://user:hunter2@127.0.0.1:1/meshca")
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1:1/meshca" in str(caught.value)


def test_locks_that_sinks_take_first_are_taken_before_any_of_them_writes(tmp_path: Path) -> None:
    told: list[str] = []

    class Telling(IntentSink):
        def write(self, connection: sa.Connection, records: Sequence[Intent]) -> None:
            told.append("intent")

    class Locking:
        def first(self, connection: sa.Connection) -> None:
            told.append("lock")

        def write(self, connection: sa.Connection, records: Sequence[Entry]) -> None:
            told.append("entry")

    async def story(engine: sa.Engine) -> None:
        sinks: dict[type, Sink] = {Intent: Telling(), Entry: Locking()}
        async with writer_of(engine, sinks=sinks) as writer:
            await writer.submit(entry("1"), intent("1"))
            await writer.submit(intent("2"))

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
    assert told == ["lock", "intent", "entry", "intent"]


def test_whatever_appends_to_the_log_takes_its_lock_first() -> None:
    appending = (Entry, Redact, HoldChange, Opening, Publication, Removal)
    for sinks in (SINKS, {**AUDIT_SINKS, Entry: EntrySink()}):
        assert {getattr(sinks[kind], "first", None) for kind in appending} == {lock_log}
