"""Decisions in the audit log: told in full, counted by the minute, and what is left out is said."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa

from admin.decision_entries import OPERATIONS_AN_ENTRY, DecisionEntries
from audit.entry import KINDS, Entry
from audit.log import Log
from authz.records.decisions import Decisions
from authz.records.observed import Place
from authz.records.operation import Operation
from authz.records.recorder import DecisionRecorder
from authz.records.tables import FullRecord, Gap, MinuteCount, Outcome
from meshca.metrics import Metrics
from tests.authz.records.test_recorder import observed
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

NOW = datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC)
WEB, ORDERS = "spiffe://example.org/ns/shop/sa/web", "spiffe://example.org/ns/shop/sa/orders"
VICTIM = "spiffe://example.org/ns/bank/sa/treasurer"
AN_HOUR = timedelta(hours=1)


def operation(path: str = "/items", source: str = WEB, destination: str = ORDERS) -> Operation:
    labels = '{"app":"orders"}'
    return Operation(source, destination, "shop", labels, "http", 80, "GET", path, "shop")


def full(*, allowed: bool = False, **changes: Any) -> FullRecord:
    fields: dict[str, Any] = {
        "at": NOW - AN_HOUR,
        "operation": operation(),
        "outcome": Outcome(allowed, "shop/read", 2),
        "door": "access_log",
        "reason": "methods: POST is none of GET",
        "request_id": "r-1",
        "place": Place("prod", "orders", "orders-1", "node-7"),
        **changes,
    }
    return FullRecord(**fields)


def counted(count: int = 1, *, minute: int = 0, allowed: bool = True, **of: str) -> MinuteCount:
    return MinuteCount(
        minute, operation(**of), Outcome(allowed, "shop/read", 0), count, NOW - AN_HOUR, NOW
    )


def entries(*records: Any, entries_a_minute: int = 100) -> list[Entry]:
    return DecisionEntries(entries_a_minute)(records, NOW)


def test_a_denial_says_who_called_whom_by_which_rule_and_where_it_was_decided() -> None:
    (entry,) = entries(full())
    assert (entry.kind, entry.outcome, entry.time) == ("decision", "refused", NOW)
    assert (entry.spiffe_id, entry.destination) == (WEB, ORDERS)
    assert (entry.policy, entry.request_id) == ("shop/read", "r-1")
    where = entry.cluster, entry.namespace, entry.service_account, entry.pod, entry.node
    assert where == ("prod", "shop", "orders", "orders-1", "node-7")
    assert entry.details["at"] == (NOW - AN_HOUR).isoformat(), "the proxy's clock is a detail only"
    assert (entry.details["rule"], entry.details["path"]) == (2, "/items")


def test_what_an_application_claims_is_a_detail_and_it_is_the_actor_itself() -> None:
    asked = replace(operation(source=VICTIM), asked_by=ORDERS)
    (denied,) = entries(full(operation=asked, door="application"))
    (count,) = entries(replace(counted(), operation=asked))
    for entry in (denied, count):
        assert (entry.actor, entry.spiffe_id, entry.destination) == (ORDERS, "", ORDERS)
        assert entry.details["claimed_source"] == VICTIM


def test_what_an_application_claims_takes_nothing_of_the_share_of_whom_it_names() -> None:
    claims = [
        replace(counted(), operation=replace(operation(source=VICTIM), asked_by=f"{ORDERS}{n}"))
        for n in range(2)
    ]
    of_the_victim = [counted(source=VICTIM, destination="bank")]
    made = DecisionEntries(4)
    made([claims[0]], NOW)
    assert [each.kind for each in made(of_the_victim, NOW)] == ["decision_count"]
    assert len(entries(*claims, entries_a_minute=100)) == 2, "each asker has its own"


def test_what_is_on_trial_is_told_with_its_verdict() -> None:
    trial = orjson.dumps({"shadow": {"policy": "shop/tight", "rule": 0, "reason": "x"}}).decode()
    (entry,) = entries(full(allowed=True, shadow="deny", details=trial))
    assert (entry.outcome, entry.details["shadow_verdict"]) == ("done", "deny")
    assert entry.details["shadow"] == {"policy": "shop/tight", "rule": 0, "reason": "x"}


def test_equal_callers_destinations_and_policies_share_the_entry_of_a_minute() -> None:
    rows = [counted(3, path="/a"), counted(4, path="/b"), counted(1, allowed=False)]
    allowed, denied = entries(*rows)
    assert (allowed.kind, allowed.outcome, denied.outcome) == ("decision_count", "done", "refused")
    assert (allowed.details["count"], denied.details["count"]) == (7, 1)
    assert allowed.details["minute"] == "1970-01-01T00:00:00+00:00"
    told: Any = allowed.details["operations"]
    assert [(each["path"], each["count"]) for each in told] == [("/a", 3), ("/b", 4)]


def test_no_entry_holds_more_operations_than_its_bound() -> None:
    many = [counted(path=f"/{number}") for number in range(OPERATIONS_AN_ENTRY + 1)]
    told: list[Any] = [each.details["operations"] for each in entries(*many)]
    assert list(map(len, told)) == [OPERATIONS_AN_ENTRY, 1]


def test_counts_over_the_bound_of_a_minute_become_a_gap() -> None:
    rows = [counted(2, source=f"{WEB}{n}", destination=f"{ORDERS}{n}") for n in range(6)]
    *told, gap = entries(*rows, entries_a_minute=4)
    assert len(told) == 4
    assert (gap.kind, gap.reason) == ("gap", "too_many_counts")
    assert (gap.details["what"], gap.details["unrecorded"]) == ("decision_count", 4)
    assert gap.details["since"] == (NOW - AN_HOUR).isoformat()


def test_one_caller_and_one_destination_leave_room_for_the_others() -> None:
    of_one = [counted(destination=f"{ORDERS}{n}") for n in range(4)]
    to_one = [counted(source=f"{WEB}{n}", destination="bank") for n in range(4)]
    made = DecisionEntries(8)
    assert [each.kind for each in made(of_one, NOW)] == ["decision_count"] * 2 + ["gap"]
    assert [each.kind for each in made(to_one, NOW)] == ["decision_count"] * 2 + ["gap"]
    assert [each.kind for each in made([counted(minute=60)], NOW)] == ["decision_count"]


def test_records_and_their_entries_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    def rename(engine: sa.Engine, old: str, new: str) -> None:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    async def story(engine: sa.Engine) -> None:
        clock = FakeClock()
        async with writer_of(engine, clock=clock) as writer:
            made = DecisionEntries()
            recorder = DecisionRecorder(writer, clock, Metrics(), entries_of=made)
            recorder.record(observed(clock, "POST"))
            recorder.lose("flood", 2)
            for table in ("decision_records", "audit_entries"):
                rename(engine, table, "away")
                await recorder.flush()
                rename(engine, "away", table)
                assert "decision" not in kinds(engine)
                assert not Decisions(engine).denials(clock.now() - AN_HOUR)
            await recorder.close()
            assert len(Decisions(engine).denials(clock.now() - AN_HOUR)) == 1

    with sqlite_engine(tmp_path) as engine:
        asyncio.run(story(engine))
        assert sorted(kinds(engine)) == ["decision", "decision_count", "gap"]


def kinds(engine: sa.Engine) -> list[str]:
    """Return the kinds of the entries in the log."""
    return [stored.kind for stored in Log(engine).entries()]


def test_decisions_that_were_lost_are_a_gap_with_the_reason() -> None:
    (gap,) = entries(Gap(NOW, NOW - AN_HOUR, "flood", 12))
    assert gap.kind in KINDS
    assert (gap.details["unrecorded"], gap.details["by_reason"]) == (12, {"flood": 12})
