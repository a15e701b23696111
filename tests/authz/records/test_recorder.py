"""Recording: what is kept in full, what is counted, and what is lost is said."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from authz.decision import Decision
from authz.engine import decide
from authz.load import load_policies
from authz.policy import Action, PolicySet, Stage
from authz.records.counting import MinuteCounts
from authz.records.decisions import DecisionQuery, Decisions
from authz.records.observed import EXT_AUTHZ, Observed
from authz.records.operation import OTHER, Operation
from authz.records.recorder import PATIENCE_SECONDS, DecisionRecorder
from authz.records.retention import Retention
from authz.records.sinks import DECISION_SINKS
from authz.records.tables import Gap, Outcome
from authz.request import Http, Request
from authz.workload import Workload
from meshca.database import Sink
from meshca.metrics import Metrics
from meshca.spiffe_id import SpiffeId
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
ORDERS = Workload("shop", {"app": "orders"})
PROXY = "spiffe://example.org/ns/shop/sa/orders"
AN_HOUR = timedelta(hours=1)
POLICIES = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: read, namespace: shop}
spec: {rules: [{to: [{operation: {methods: [GET]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tight, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: watch, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/money]}}]}]}
"""
CHANGES: Mapping[str, dict[str, Any]] = {
    "tight": {"stage": Stage.SHADOW},
    "watch": {"action": Action.AUDIT},
}


def policies() -> PolicySet:
    loaded = load_policies(
        [("t.yaml", POLICIES)], trust_domain="example.org", root_namespace="meshca", default="deny"
    )
    changed = [replace(each, **CHANGES.get(each.name, {})) for each in loaded.policies]
    return PolicySet.of(
        changed, trust_domain="example.org", root_namespace="meshca", default="deny"
    )


def decided(method: str = "GET", path: str = "/items") -> tuple[Request, Decision]:
    request = Request(WEB, ORDERS, port=8080, http=Http(method, path, "shop"), source_ip="10.0.0.1")
    return request, decide(policies(), request)


def observed(clock: FakeClock, method: str = "GET", path: str = "/items", **more: Any) -> Observed:
    request, decision = decided(method, path)
    given = {"allowed": decision.allowed, "door": EXT_AUTHZ, "destination": PROXY, **more}
    return Observed(request=request, decision=decision, at=clock.now(), **given)


@dataclass
class Breakable:
    """A sink that refuses everything while `broken`."""

    real: Sink
    broken: bool = False

    def write(self, connection: sa.Connection, records: Any) -> None:
        """Write, or fail as a database does that is away."""
        if self.broken:
            raise sa.exc.OperationalError("insert", {}, Exception("the disk is gone"))
        self.real.write(connection, records)


@dataclass
class Recording:
    """A recorder on a database of its own."""

    clock: FakeClock
    metrics: Metrics
    engine: sa.Engine
    recorder: DecisionRecorder
    sinks: list[Breakable]

    @property
    def decisions(self) -> Decisions:
        """Return what was kept."""
        return Decisions(self.engine)

    def is_down(self, *, down: bool) -> None:
        """Take the database away, or give it back."""
        for sink in self.sinks:
            sink.broken = down

    def lost(self, reason: str) -> float:
        """Return how many the metric says were lost."""
        labels = {"reason": reason}
        return self.metrics.registry.get_sample_value(
            "meshca_decisions_unrecorded_total", labels
        ) or 0.0  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    """A migrated database."""
    with sqlite_engine(tmp_path) as engine:
        yield engine


@asynccontextmanager
async def recording(engine: sa.Engine, **options: Any) -> AsyncIterator[Recording]:
    clock, metrics = FakeClock(), Metrics()
    breakable = {kind: Breakable(sink) for kind, sink in DECISION_SINKS.items()}
    async with writer_of(engine, clock=clock, metrics=metrics, sinks=breakable) as writer:
        recorder = DecisionRecorder(writer, clock, metrics, **options)
        yield Recording(clock, metrics, engine, recorder, list(breakable.values()))


def test_a_denial_is_kept_with_its_near_miss(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            r.recorder.record(observed(r.clock, "POST"))
            await r.recorder.flush()
            (kept,) = r.decisions.denials(r.clock.now() - AN_HOUR)
            assert kept.reason.endswith(
                "ns[shop]-policy[read]-rule[0]: methods: POST is none of GET"
            )
            assert (kept.door, kept.source_ip) == (EXT_AUTHZ, "10.0.0.1")

    asyncio.run(story())


def test_what_is_allowed_is_counted_once_its_minute_is_over(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            for _ in range(3):
                r.recorder.record(observed(r.clock))
            r.recorder.record(observed(r.clock, count=4))
            await r.recorder.flush()
            assert not list(r.decisions.distinct(r.clock.now() - AN_HOUR))
            r.clock.advance(timedelta(minutes=1))
            await r.recorder.flush()
            (counted,) = r.decisions.distinct(r.clock.now() - AN_HOUR)
            assert (counted.count, counted.outcome.policy, counted.outcome.rule) == (
                7,
                "shop/read",
                0,
            )
            assert r.decisions.find(DecisionQuery()) == []

    asyncio.run(story())


def test_the_minute_under_way_is_written_when_the_process_ends(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            r.recorder.record(observed(r.clock))
            await r.recorder.close()
            assert [d.count for d in r.decisions.distinct(r.clock.now() - AN_HOUR)] == [1]

    asyncio.run(story())


def test_what_is_on_trial_is_kept_where_it_would_decide_otherwise(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            r.recorder.record(observed(r.clock, path="/admin"))
            r.recorder.record(observed(r.clock, path="/items"))
            await r.recorder.flush()
            (kept,) = r.decisions.shadow_differences(r.clock.now() - AN_HOUR)
            assert (kept.outcome.allowed, kept.shadow) == (True, "deny")
            assert kept.details["shadow"]["policy"] == "shop/tight"

    asyncio.run(story())


def test_nothing_is_said_of_a_trial_whose_facts_are_not_all_known(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            r.recorder.record(observed(r.clock, path="/admin", is_partial=True))
            await r.recorder.flush()
            assert r.decisions.shadow_differences(r.clock.now() - AN_HOUR) == []

    asyncio.run(story())


def test_audit_matches_are_kept_though_allowed(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            r.recorder.record(observed(r.clock, path="/money"))
            await r.recorder.flush()
            (kept,) = r.decisions.find(DecisionQuery(verdict="allow"))
            assert kept.details["audited"] == ["ns[shop]-policy[watch]-rule[0]"]

    asyncio.run(story())


def test_the_rule_that_the_proxy_named_goes_before_the_engines(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            named = "ns[shop]-policy[old-rule]-rule[3]"
            r.recorder.record(observed(r.clock, allowed=False, named=named, disagrees=True))
            await r.recorder.flush()
            (kept,) = r.decisions.find(DecisionQuery())
            assert (kept.outcome.policy, kept.outcome.rule) == ("shop/old-rule", 3)
            assert kept.reason.startswith("the proxy denied it, but by the set in force: allowed")
            assert kept.details["disagrees"] is True

    asyncio.run(story())


def test_denials_over_the_bound_become_a_gap(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine, burst=2) as r:
            for _ in range(5):
                r.recorder.record(observed(r.clock, "POST"))
            await r.recorder.flush()
            since = r.clock.now() - AN_HOUR
            assert len(r.decisions.denials(since)) == 2
            assert r.decisions.lost(since) == {"rate": 3}
            assert r.lost("rate") == 3
            await r.recorder.close()
            assert [d.count for d in r.decisions.distinct(since)] == [5], "all are counted"

    asyncio.run(story())


def test_paths_without_end_become_one_other(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine, counts=MinuteCounts(operations_a_pair=3)) as r:
            for number in range(10):
                r.recorder.record(observed(r.clock, path=f"/{number}"))
            await r.recorder.close()
            counted = {d.path: d.count for d in r.decisions.distinct(r.clock.now() - AN_HOUR)}
            assert counted == {"/0": 1, "/1": 1, "/2": 1, OTHER: 7}

    asyncio.run(story())


def test_operations_over_all_bounds_become_a_gap(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine, counts=MinuteCounts(rows_a_minute=2)) as r:
            for number in range(5):
                r.recorder.record(observed(r.clock, destination=f"{PROXY}{number}"))
            await r.recorder.close()
            assert r.decisions.lost(r.clock.now() - AN_HOUR) == {"rows": 3}

    asyncio.run(story())


def test_one_destination_takes_a_quarter_of_the_rows_at_most(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine, counts=MinuteCounts(rows_a_minute=8)) as r:
            for number in range(6):
                r.recorder.record(observed(r.clock, path=f"/{number}"))
            r.recorder.record(observed(r.clock, path="/1"))
            r.recorder.record(observed(r.clock, destination=f"{PROXY}2"))
            await r.recorder.close()
            since = r.clock.now() - AN_HOUR
            assert r.decisions.lost(since) == {"rows": 4}
            assert sorted(d.count for d in r.decisions.distinct(since)) == [1, 1, 2]

    asyncio.run(story())


def test_what_is_over_the_rows_counts_as_other_and_is_not_remembered() -> None:
    counts, clock = MinuteCounts(operations_a_pair=3, rows_a_minute=16), FakeClock()
    allowed = Outcome(True)

    def add(path: str, source: str = "a") -> bool:
        operation = Operation(source, PROXY, "shop", "{}", "http", 80, "GET", path, "shop")
        return counts.add(operation, allowed, clock.now(), 1)

    assert all(add(f"/{number}") for number in range(4)), "three, and the other ones"
    assert not any(add(f"/{number}", source="b") for number in range(5))
    assert add("/new"), "its pair has a row for the others"
    (minute,) = counts.take(clock.now(), with_current=True)
    assert set(minute.seen) == {("a", PROXY)}, "no memory for what has no row"
    counted = {each.operation.path: each.count for each in minute.counted()}
    assert counted == {"/0": 1, "/1": 1, "/2": 1, OTHER: 2}


def test_a_short_outage_of_the_database_loses_nothing(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            r.is_down(down=True)
            r.recorder.record(observed(r.clock, "POST"))
            await r.recorder.flush()
            r.clock.advance(timedelta(seconds=30))
            await r.recorder.flush()
            r.is_down(down=False)
            await r.recorder.flush()
            since = r.clock.now() - AN_HOUR
            assert len(r.decisions.denials(since)) == 1
            assert r.decisions.lost(since) == {}

    asyncio.run(story())


def test_a_long_outage_of_the_database_is_told_when_it_is_back(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            r.is_down(down=True)
            for _ in range(3):
                r.recorder.record(observed(r.clock, "POST"))
            await r.recorder.flush()
            r.clock.advance(timedelta(seconds=PATIENCE_SECONDS + 1))
            await r.recorder.flush()
            assert r.lost("database") == 3
            r.is_down(down=False)
            await r.recorder.flush()
            since = r.clock.now() - AN_HOUR
            assert r.decisions.lost(since) == {"database": 3}
            assert r.decisions.denials(since) == []
            assert [d.count for d in r.decisions.distinct(since)] == [3]

    asyncio.run(story())


def test_what_fails_on_its_way_into_words_is_lost_with_its_count(engine: sa.Engine) -> None:
    def fails(_records: Any, _now: Any) -> list[Any]:
        raise ValueError("a mistake of ours")

    async def story() -> None:
        async with recording(engine) as r:
            r.recorder.entries_of = fails
            r.recorder.record(observed(r.clock, "POST"))
            with pytest.raises(ValueError, match="a mistake of ours"):
                await r.recorder.flush()
            r.recorder.entries_of = lambda _records, _now: ()
            await r.recorder.flush()
            assert r.decisions.lost(r.clock.now() - AN_HOUR) == {"wording": 1}

    asyncio.run(story())


def test_observers_hear_of_every_decision_and_stop_when_they_like(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine, burst=1) as r:
            heard: list[bool] = []

            def fails(_observed: Observed) -> None:
                raise ValueError("an observer's own fault")

            r.recorder.observers.subscribe(fails)
            end = r.recorder.observers.subscribe(lambda o: heard.append(o.allowed))
            for method in ("GET", "POST", "POST"):
                r.recorder.record(observed(r.clock, method))
            end()
            r.recorder.record(observed(r.clock))
            assert heard == [True, False, False]

    asyncio.run(story())


def test_records_are_deleted_when_they_are_old_and_only_then(engine: sa.Engine) -> None:
    async def story() -> None:
        async with recording(engine) as r:
            r.recorder.record(observed(r.clock, "POST"))
            r.recorder.lose("flood", 2)
            await r.recorder.close()
            long_ago = r.clock.now() - timedelta(days=40)
            await r.recorder.writer.submit(*(Gap(long_ago, long_ago, "old", 1),) * 1200)
            retention = Retention(
                engine=engine, writer=r.recorder.writer, clock=r.clock, keep=timedelta(days=30)
            )
            await retention.delete()
            assert r.decisions.lost(long_ago) == {"flood": 2}
            assert len(r.decisions.denials(long_ago)) == 1
            r.clock.advance(timedelta(days=31))
            await retention.delete()
            assert r.decisions.denials(long_ago) == []
            assert not list(r.decisions.distinct(long_ago))
            assert r.decisions.lost(long_ago) == {}

    asyncio.run(story())
