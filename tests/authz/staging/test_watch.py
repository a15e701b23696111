"""A canary that denies what was allowed goes back to shadow by itself, and only then."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from authz.decision import Decision
from authz.decision import Outcome as Why
from authz.policy import Stage
from authz.records.observed import Observed
from authz.records.operation import Operation
from authz.records.tables import FullRecord, Outcome
from authz.staging.denials import CanaryDenial, read_denials
from authz.staging.differences import MAXIMUM_SHOWN, read_differences
from meshca.errors import StoreUnavailable
from tests.authz.builders import document, rule, to_yaml
from tests.authz.staging.world import (
    ALICE,
    BOB,
    CLOSED,
    ITEMS,
    OPEN,
    ORDERS,
    WINDOW,
    Replica,
    replica,
)
from tests.fakes import FakeClock
from tests.stores import sqlite_engine

Story = Callable[[Replica, FakeClock], Awaitable[None]]


def tell(directory: Path, story: Story, *, before: str = OPEN) -> None:
    """Run `story` on a replica in whose namespace `stock` CLOSED is on trial; two pairs suffice."""

    async def whole() -> None:
        clock = FakeClock()
        with sqlite_engine(directory) as engine:
            async with replica(engine, clock=clock) as one:
                await one.apply(before)
                await canary(one)
                await story(one, clock)

    asyncio.run(whole())


async def canary(one: Replica) -> None:
    changes = one.staging.changes
    if one.staging.live.staged is None:
        await changes.stage(CLOSED, author=ALICE, reason="CHG-7")
    await changes.promote(actor=BOB, reason="try", namespaces=["stock"])


def stage(one: Replica) -> Stage:
    staged = one.staging.live.staged
    assert staged is not None
    return staged.stage


def test_so_many_pairs_take_the_canary_back_and_say_which(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        one.observe("guest", ITEMS)
        await one.staging.watch.look()
        assert stage(one) is Stage.CANARY
        assert one.metric("meshca_authz_canary_denied_pairs") == 1
        one.observe("robot", ITEMS)
        await one.staging.watch.look()
        assert stage(one) is Stage.SHADOW
        assert one.decide(to=ITEMS).allowed
        entry = one.entries("policy_stage")[-1]
        assert (entry["actor"], entry["details"]["step"]) == ("meshca", "fell_back")
        assert entry["reason"].startswith("2 pairs of peer and destination")
        pairs = entry["details"]["pairs"]
        assert [pair["source"].rpartition("/")[2] for pair in pairs] == ["guest", "robot"]
        assert "principals" in pairs[0]["example"]
        assert one.metric("meshca_authz_canary_fell_back_total") == 1

    tell(tmp_path, story)


def test_one_pair_is_one_pair_however_often_it_is_denied(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        for _i in range(50):
            one.observe("guest", ITEMS)
        await one.staging.watch.look()
        assert stage(one) is Stage.CANARY
        (pair,) = one.staging.watch.pairs.values()
        assert pair.count == 50

    tell(tmp_path, story)


def test_denials_elsewhere_and_of_what_was_denied_before_do_not_count(tmp_path: Path) -> None:
    before = to_yaml(
        document("all", "stock", rules=[rule({"principals": ["example.org/ns/shop/sa/guest"]})]),
        document("none", "shop"),
    )

    async def story(one: Replica, _: FakeClock) -> None:
        one.observe("robot", ITEMS)
        one.observe("admin", ITEMS)
        one.observe("web", ORDERS)
        one.observe("guest", ORDERS)
        await one.staging.watch.look()
        assert one.staging.watch.pairs == {}
        one.observe("guest", ITEMS)
        await one.staging.watch.look()
        assert len(one.staging.watch.pairs) == 1

    tell(tmp_path, story, before=before)


def test_pairs_count_within_the_window(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        one.observe("guest", ITEMS)
        await one.staging.watch.look()
        clock.advance(WINDOW + timedelta(seconds=1))
        one.observe("robot", ITEMS)
        await one.staging.watch.look()
        assert stage(one) is Stage.CANARY
        assert len(one.staging.watch.pairs) == 1
        one.observe("guest", ITEMS)
        await one.staging.watch.look()
        assert stage(one) is Stage.SHADOW

    tell(tmp_path, story)


def test_the_next_canary_counts_anew(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        one.observe("guest", ITEMS)
        one.observe("robot", ITEMS)
        await one.staging.watch.look()
        await canary(one)
        await one.staging.watch.look()
        assert stage(one) is Stage.CANARY
        one.observe("guest", ITEMS)
        await one.staging.watch.look()
        assert stage(one) is Stage.CANARY

    tell(tmp_path, story)


def test_pairs_of_every_replica_count_together(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        async with replica(one.engine, clock=one.clock, name="two") as two:
            one.observe("guest", ITEMS)
            await one.staging.watch.look()
            two.observe("robot", ITEMS)
            await two.staging.watch.look()
            assert stage(two) is Stage.SHADOW
            await one.staging.live.load()
            assert one.decide(to=ITEMS).allowed
            await one.staging.watch.look()
            assert one.metric("meshca_authz_canary_fell_back_total") == 1
        assert len(one.entries("policy_stage")) == 3, "one of them has recorded it"

    tell(tmp_path, story)


def test_what_was_seen_before_a_crash_counts_after_it(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        staged = one.staging.live.staged
        assert staged is not None
        for source in ("guest", "robot"):
            seen = CanaryDenial(staged.last, source, "items", clock.now(), 1, "one", "")
            await one.writer.submit(seen)
        async with replica(one.engine, clock=clock, name="two") as again:
            assert stage(again) is Stage.CANARY
            await again.staging.watch.look()
            assert stage(again) is Stage.SHADOW

    tell(tmp_path, story)


def test_without_a_database_it_is_taken_back_here_and_recorded_later(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        rename(one, "audit_entries", "away")
        rename(one, "canary_denials", "gone")
        one.observe("guest", ITEMS)
        one.observe("robot", ITEMS)
        with pytest.raises(StoreUnavailable):
            await one.staging.watch.look()
        assert one.staging.live.is_suspended
        assert one.decide(to=ITEMS).allowed
        rename(one, "away", "audit_entries")
        rename(one, "gone", "canary_denials")
        await one.staging.watch.look()
        assert stage(one) is Stage.SHADOW
        assert one.entries("policy_stage")[-1]["details"]["step"] == "fell_back"

    tell(tmp_path, story)


def test_what_took_it_back_without_a_database_is_recorded_however_late(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        rename(one, "changes", "away")  # nothing can be written
        one.observe("guest", ITEMS)
        one.observe("robot", ITEMS)
        for _i in range(3):
            with pytest.raises(StoreUnavailable):
                await one.staging.watch.look()
            clock.advance(WINDOW)
        rename(one, "away", "changes")
        await one.staging.watch.look()
        assert (stage(one), one.decide(to=ITEMS).allowed) == (Stage.SHADOW, True)
        entry = one.entries("policy_stage")[-1]
        assert entry["reason"].startswith("2 pairs of peer and destination")
        assert len(entry["details"]["pairs"]) == 2

    tell(tmp_path, story)


def rename(one: Replica, table: str, to: str) -> None:
    with one.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")


def test_a_canary_of_which_nothing_is_heard_is_blind(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        await one.staging.watch.look()
        assert not one.staging.watch.is_blind
        clock.advance(WINDOW + timedelta(seconds=1))
        await one.staging.watch.look()
        assert one.staging.watch.is_blind
        assert one.metric("meshca_authz_canary_blind") == 1
        one.observe("web", ITEMS)
        clock.advance(timedelta(minutes=1))
        await one.staging.watch.look()
        assert not one.staging.watch.is_blind
        assert one.metric("meshca_authz_canary_blind") == 0

    tell(tmp_path, story)


def test_a_pair_is_written_down_once_in_half_a_window(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        staged = one.staging.live.staged
        assert staged is not None
        since = clock.now()
        for _i in range(10):
            one.observe("guest", ITEMS)
            await one.staging.watch.look()
            clock.advance(WINDOW / 9)
        assert len(read_denials(one.engine, staged.last, since=since)) == 2

    tell(tmp_path, story)


def test_differences_are_counted_by_who_does_what_to_whom(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        def record(source: str, shadow: str) -> FullRecord:
            asked = one.asked(source, ITEMS)
            operation = Operation.of(asked, "spiffe://example.org/ns/stock/sa/items")
            outcome = Outcome(shadow != "allow")
            return FullRecord(clock.now(), operation, outcome, "access_log", "", shadow=shadow)

        await one.writer.submit(
            record("guest", "deny"), record("guest", "deny"), record("robot", "allow")
        )
        await one.writer.submit(record("web", ""))
        found = read_differences(one.engine, clock.now())
        assert (found.newly_denied, found.newly_allowed, found.operations) == (2, 1, 2)
        first, second = found.shown
        assert (first.is_denial, first.count, second.is_denial) == (True, 2, False)
        assert first.operation.source.endswith("/sa/guest")
        assert read_differences(one.engine, clock.now() + timedelta(seconds=1)).shown == ()

    tell(tmp_path, story)


def test_of_very_many_differences_all_are_counted_and_the_most_frequent_shown(
    tmp_path: Path,
) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        def record(path: str, shadow: str) -> FullRecord:
            operation = Operation.of(one.asked("guest", ITEMS), "spiffe://example.org/ns/a/sa/b")
            outcome = Outcome(shadow != "allow")
            operation = replace(operation, path=path)
            return FullRecord(clock.now(), operation, outcome, "access_log", "", shadow=shadow)

        denied = [record(f"/{number}", "deny") for number in range(MAXIMUM_SHOWN + 20)]
        await one.writer.submit(*denied, record("/new", "allow"), record("/new", "allow"))
        asked: list[str] = []
        sa.event.listen(one.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
        found = read_differences(one.engine, clock.now())
        ordered = [statement for statement in asked if "ORDER BY" in statement]
        assert ordered
        assert all("LIMIT" in statement for statement in ordered), "no more than is shown is read"
        assert (found.newly_denied, found.newly_allowed) == (MAXIMUM_SHOWN + 20, 2)
        assert (found.operations, len(found.shown)) == (MAXIMUM_SHOWN + 21, MAXIMUM_SHOWN)
        assert (found.shown[0].operation.path, found.shown[0].count) == ("/new", 2)

    tell(tmp_path, story)


def test_what_a_provider_denies_is_not_the_canarys_doing(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        for name in ("guest", "robot"):
            decision = Decision(False, Why.CUSTOM, None, ())
            asked = one.asked(name, ITEMS)
            one.staging.watch.observe(
                Observed(
                    request=replace(asked),
                    allowed=False,
                    decision=decision,
                    at=clock.now(),
                    door="ext_authz",
                )
            )
        await one.staging.watch.look()
        assert stage(one) is Stage.CANARY

    tell(tmp_path, story)
