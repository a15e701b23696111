"""What expires goes, and only that; its leaf stays, and an entry says so."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from audit.entry import Entry
from audit.index.building import SMALL
from audit.index.indexer import Indexer
from audit.log import EntrySink, Log
from audit.query import Query, count, find
from audit.retention.columns import check_columns
from audit.retention.coverage import parse_redaction
from audit.retention.expiry import preview
from audit.retention.loop import LOOK_SECONDS
from audit.retention.redaction import BATCH, Candidate, Redact, RedactionSink
from audit.retention.rules import Rules
from audit.tree import audit_entries
from audit.verify import verify
from meshca.errors import EvidenceBroken, StoreUnavailable
from meshca.metrics import Metrics
from meshca.name_locks import FileLocks, open_name_locks
from tests.audit.retention.world import (
    NOW,
    OLD,
    RULES,
    append,
    blank,
    entry,
    execute,
    issuance,
    redact,
    retention,
    rows,
    writer,
)
from tests.fakes import FakeClock

HOUR = timedelta(hours=1)


def test_what_is_due_loses_its_body_and_nothing_else(engine: sa.Engine) -> None:
    append(engine, entry(1), entry(2, kind="refusal"), entry(3), entry(4, time=NOW))
    before, root = rows(engine), Log(engine).root_at(4)
    assert asyncio.run(redact(engine, FakeClock())) == 2
    after = rows(engine)
    assert blank(engine) == [0, 2]
    assert [r.leaf_hash for r in after[:4]] == [r.leaf_hash for r in before]
    assert [(r.time, r.kind) for r in after[:4]] == [(r.time, r.kind) for r in before]
    assert Log(engine).root_at(4) == root, "an old checkpoint verifies"
    assert verify(engine).size == 5


def test_the_redaction_is_an_entry_with_ranges_counts_and_the_rule(engine: sa.Engine) -> None:
    append(engine, entry(1), issuance(2, OLD), entry(3, kind="ban"), entry(4))
    asyncio.run(redact(engine, FakeClock()))
    body = orjson.loads(rows(engine)[-1].body)
    assert (body["kind"], body["outcome"], body["actor"]) == ("redaction", "done", "meshca")
    details = body["details"]
    assert details["ranges"] == [[0, 1], [3, 3]]
    assert details["kinds"] == {"issuance": 1, "read": 2}
    assert details["rules"] == {"issuance": "90d", "read": "90d"}
    with engine.connect() as connection:
        check_columns(connection, [parse_redaction(4, body)])


def test_an_issuance_stays_until_its_certificate_has_expired(engine: sa.Engine) -> None:
    append(engine, issuance(1, NOW + 3 * HOUR), issuance(2, NOW - HOUR))
    clock = FakeClock()
    asyncio.run(redact(engine, clock))
    assert blank(engine) == [1]
    clock.advance(3 * HOUR)
    asyncio.run(redact(engine, clock))
    assert blank(engine) == [0, 1]


def test_a_preview_counts_and_changes_nothing(engine: sa.Engine) -> None:
    append(engine, entry(1), entry(2), issuance(3, NOW + HOUR), entry(4, kind="ban"))
    seen = preview(engine, RULES, NOW)
    assert (seen.due, seen.held, seen.live) == ({"read": 2}, {}, {"issuance": 1})
    assert blank(engine) == []
    assert Log(engine).head().size == 4


def test_nothing_is_redacted_without_a_rule(engine: sa.Engine) -> None:
    append(engine, entry(1))
    assert asyncio.run(redact(engine, FakeClock(), Rules())) == 0
    assert blank(engine) == []


def test_what_is_redacted_is_not_redacted_again(engine: sa.Engine) -> None:
    append(engine, *(entry(n) for n in range(10)))
    assert asyncio.run(redact(engine, FakeClock())) == 10
    assert asyncio.run(redact(engine, FakeClock())) == 0
    assert Log(engine).head().size == 11, "one redaction"


def test_many_entries_go_in_batches_of_a_transaction_each(engine: sa.Engine) -> None:
    append(engine, *(entry(n, kind="read" if n % 2 else "ban") for n in range(2_500)))
    asyncio.run(redact(engine, FakeClock()))
    assert len(blank(engine)) == 1_250
    redactions = [orjson.loads(r.body)["details"] for r in rows(engine) if r.kind == "redaction"]
    assert [sum(d["kinds"].values()) for d in redactions] == [500, 500, 250]
    assert verify(engine).size == 2_503


def test_a_clock_that_jumped_does_not_decide(engine: sa.Engine) -> None:
    append(engine, entry(1, time=NOW))

    async def story() -> None:
        clock = FakeClock()
        async with writer(engine, clock) as running:
            loop = retention(engine, running, clock)
            await loop.look()
            clock.jump(timedelta(days=3_650))
            clock.advance(timedelta(seconds=LOOK_SECONDS))
            assert await loop.look() == 0
            clock.jump(timedelta(days=-3_650))  # somebody has mended it
            clock.advance(timedelta(seconds=LOOK_SECONDS))
            assert await loop.look() == 0
            clock.advance(timedelta(seconds=LOOK_SECONDS))
            assert await loop.look() == 0
            loop.locks.close()

    asyncio.run(story())
    assert blank(engine) == []


def test_a_new_process_redacts_nothing_in_its_first_hour(engine: sa.Engine) -> None:
    append(engine, entry(1))

    async def story() -> int:
        clock = FakeClock()
        async with writer(engine, clock) as running:
            loop = retention(engine, running, clock)
            try:
                return await loop.look()
            finally:
                loop.locks.close()

    assert asyncio.run(story()) == 0
    assert blank(engine) == []


def test_one_replica_redacts(engine: sa.Engine) -> None:
    append(engine, entry(1))

    async def story() -> None:
        clock = FakeClock()
        async with writer(engine, clock) as running:
            one, other = (retention(engine, running, clock) for _ in range(2))
            for loop in (one, other):
                await loop.look()
            clock.advance(HOUR)
            assert await other.look() == 0
            assert await one.look() == 1
            one.locks.close()
            other.locks.close()

    asyncio.run(story())


def test_entries_of_a_clock_that_went_back_go_too(engine: sa.Engine) -> None:
    append(engine, entry(1), entry(2, time=NOW - HOUR), entry(3), entry(4, time=NOW), entry(5))
    clock = FakeClock()
    asyncio.run(redact(engine, clock))
    clock.advance(timedelta(days=91))
    asyncio.run(redact(engine, clock))
    assert blank(engine) == [0, 1, 2, 3, 4]
    verify(engine)


class FailingSink(EntrySink):
    """An entry that cannot be appended: the disk is full, or the process ends here."""

    def append(self, connection: sa.Connection, entries: Sequence[Entry]) -> range:
        """Refuse."""
        raise StoreUnavailable("full")


def test_what_ends_in_the_middle_of_a_batch_has_redacted_whole_batches(engine: sa.Engine) -> None:
    append(engine, *(entry(n) for n in range(6)))
    found = tuple(Candidate(r.leaf_index, r.time, r.kind) for r in rows(engine))

    def batch(*candidates: Candidate) -> Redact:
        return Redact(NOW, candidates, RULES.cutoffs(NOW), RULES.as_text())

    def fails() -> None:
        with engine.begin() as connection:
            RedactionSink().write(connection, [batch(*found[:2])])
            RedactionSink(FailingSink()).write(connection, [batch(*found[2:4])])

    with pytest.raises(StoreUnavailable):
        fails()
    assert blank(engine) == [], "no body goes without its redaction"
    with engine.begin() as connection:
        RedactionSink().write(connection, [batch(*found[:2])])
    assert asyncio.run(redact(engine, FakeClock())) == 4, "another process goes on"
    assert blank(engine) == [0, 1, 2, 3, 4, 5]
    verify(engine)


def test_the_index_forgets_what_was_redacted(engine: sa.Engine) -> None:
    append(engine, *(entry(n, pod=f"pod-{n % 2}", time=OLD) for n in range(SMALL)))

    async def index() -> None:
        async with writer(engine, FakeClock()) as running:
            locks = open_name_locks(engine)
            await Indexer(log=Log(engine), writer=running, locks=locks, metrics=Metrics()).look()
            locks.close()

    asyncio.run(index())
    assert count(engine, Query(pod="pod-1")).count == SMALL // 2
    asyncio.run(redact(engine, FakeClock()))
    assert find(engine, Query(pod="pod-1")).entries == ()
    asyncio.run(index())
    assert count(engine, Query(pod="pod-1")).count == 0
    assert find(engine, Query(kind="redaction")).entries


def test_a_failure_is_counted_and_the_loop_goes_on(engine: sa.Engine, tmp_path: Path) -> None:
    metrics, failures = Metrics(), ("meshca_loop_failures_total", {"loop": "retention"})

    async def story() -> None:
        async with writer(engine, FakeClock()) as running:
            loop = retention(engine, running, FakeClock(), metrics=metrics)
            loop.locks = FileLocks(tmp_path / "gone" / "meshca.db")
            task = asyncio.create_task(loop.run())
            async with asyncio.timeout(30):
                while not metrics.registry.get_sample_value(*failures):
                    await asyncio.sleep(0.01)
            assert not task.done()
            task.cancel()

    asyncio.run(story())


BLANK = "UPDATE audit_entries SET body = NULL WHERE leaf_index = 1"


def test_a_body_that_somebody_blanked_is_found(engine: sa.Engine) -> None:
    append(engine, entry(1), entry(2, kind="refusal"), entry(3))
    asyncio.run(redact(engine, FakeClock()))
    verify(engine)
    execute(engine, BLANK)
    with pytest.raises(EvidenceBroken, match="body of entry 1 is gone") as caught:
        verify(engine)
    assert caught.value.index == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit_entries SET kind = 'ban' WHERE leaf_index = 1",
        "UPDATE audit_entries SET time = time + 1 WHERE leaf_index = 1",
    ],
)
def test_what_is_left_of_a_redacted_entry_is_held_to_its_redaction(
    engine: sa.Engine, change: str
) -> None:
    append(engine, entry(1), entry(2))
    asyncio.run(redact(engine, FakeClock()))
    execute(engine, change)
    with pytest.raises(EvidenceBroken, match="not as they were left"):
        verify(engine)


OLD_US = int(OLD.timestamp() * 1_000_000)


@pytest.mark.parametrize(
    "change",
    [
        "body = replace(body, 'because', 'never')",
        "body = 'nothing'",
        "kind = 'read'",
        f"time = {OLD_US}",
        f"kind = 'read', time = {OLD_US}, body = replace(body, 'because', 'never')",
    ],
)
def test_an_entry_that_was_changed_is_not_redacted_and_stays_evidence(
    engine: sa.Engine, change: str
) -> None:
    """Otherwise retention itself would do away with what shows that somebody changed it."""
    changed = entry(1, kind="ban") if "kind" in change else entry(1)
    changed = replace(changed, time=NOW) if "time" in change else changed
    append(engine, entry(0), changed, *(entry(n) for n in range(2, 600)))
    execute(engine, f"UPDATE audit_entries SET {change} WHERE leaf_index = 1")  # noqa: S608  # ours
    metrics = Metrics()
    with capture_logs() as logs:
        asyncio.run(redact(engine, FakeClock(), metrics=metrics))
    (refused,) = [line for line in logs if line["event"] == "redaction_refused"]
    assert (refused["entry"], refused["kept"], refused["log_level"]) == (1, BATCH, "error")
    failures = ("meshca_loop_failures_total", {"loop": "retention"})
    assert metrics.registry.get_sample_value(*failures) == 1
    with engine.connect() as connection:
        query = sa.select(audit_entries.c.leaf_index).where(audit_entries.c.body.is_(None))
        gone = sorted(connection.execute(query).scalars())
    assert gone == list(range(BATCH, 600)), "its batch stays whole, the rest goes"
    with pytest.raises(EvidenceBroken) as broken:
        verify(engine)
    assert broken.value.index == 1


def test_the_bytes_of_a_body_are_gone_from_the_file(engine: sa.Engine) -> None:
    if engine.dialect.name != "sqlite":
        return
    append(engine, entry(1, reason="a-name-that-is-in-no-other-place"))
    asyncio.run(redact(engine, FakeClock()))
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(str(engine.url.database), "rb") as file:
        assert b"a-name-that-is-in-no-other-place" not in file.read()
