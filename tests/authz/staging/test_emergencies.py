"""Break-glass and bypasses: nothing by one person's word, nothing beyond its time."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from authz.decision import Outcome
from authz.engine import decide
from authz.staging.emergencies import LONGEST_BYPASS
from authz.staging.standing import BypassState
from meshca.errors import Conflict, NotFound, RequestRefused, StoreUnavailable
from tests.authz.builders import document, request, to_yaml
from tests.authz.staging.world import (
    ALICE,
    BOB,
    CAROL,
    CLOSED,
    EXPIRES,
    ITEMS,
    ORDERS,
    Replica,
    break_glass,
    replica,
)
from tests.fakes import FakeClock
from tests.stores import sqlite_engine

ONCALL = "example.org/ns/ops/sa/oncall"
NAME = "shop/oncall"
Story = Callable[[Replica, FakeClock], Awaitable[None]]


def tell(directory: Path, story: Story, *, policies: Path | None = None) -> None:
    """Run `story` on a replica in which only `web` may call; ALICE applied that."""

    async def whole() -> None:
        clock = FakeClock()
        with sqlite_engine(directory) as engine:
            async with replica(engine, clock=clock, directory=policies) as one:
                await one.apply(CLOSED)
                await story(one, clock)

    asyncio.run(whole())


def oncall_passes(one: Replica) -> bool:
    asked = request(ONCALL, destination=ORDERS)
    return decide(one.policies, replace(asked, time=one.clock.now().timestamp())).allowed


def test_a_break_glass_policy_is_inert_until_somebody_else_approves(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        await one.apply(f"{CLOSED}\n---\n{break_glass()}")
        assert not oncall_passes(one)
        approval = await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason="yes")
        assert approval.holds(one.clock.now())
        assert oncall_passes(one)
        assert one.metric("meshca_authz_break_glass_in_force", kind="policy") == 1
        (entry,) = one.entries("break_glass")
        assert (entry["actor"], entry["reason"], entry["outcome"]) == (BOB, "yes", "done")
        assert entry["details"]["policy"] == NAME

    tell(tmp_path, story)


def test_who_brought_the_policy_cannot_approve_and_that_is_on_record(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        await one.apply(f"{CLOSED}\n---\n{break_glass()}")
        with pytest.raises(RequestRefused) as refused:
            await one.staging.emergencies.approve_policy(NAME, actor=ALICE, reason="me")
        assert refused.value.reason == "same_person"
        assert not oncall_passes(one)
        (entry,) = one.entries("break_glass")
        assert (entry["actor"], entry["outcome"]) == (ALICE, "refused")

    tell(tmp_path, story)


def test_who_brought_it_stays_who_brought_it_when_others_apply_something_else(
    tmp_path: Path,
) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        await one.apply(f"{CLOSED}\n---\n{break_glass()}", author=ALICE)
        more = to_yaml(document("more", "shop", rules=[{}], selector={"app": "more"}))
        await one.apply(f"{CLOSED}\n---\n{break_glass()}\n---\n{more}", author=BOB)
        with pytest.raises(RequestRefused, match=f"{ALICE} brought"):
            await one.staging.emergencies.approve_policy(NAME, actor=ALICE, reason="me")
        await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason="yes")
        assert oncall_passes(one)

    tell(tmp_path, story)


def test_a_changed_policy_needs_another_approval(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        await one.apply(f"{CLOSED}\n---\n{break_glass()}")
        await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason="yes")
        wider = break_glass(principal="example.org/ns/ops/*")
        await one.apply(f"{CLOSED}\n---\n{wider}")
        assert not oncall_passes(one)
        await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason="that, too")
        assert oncall_passes(one)

    tell(tmp_path, story)


def test_a_policy_of_a_directory_takes_two_approvers(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "oncall.yaml").write_text(break_glass())

    async def story(one: Replica, _: FakeClock) -> None:
        emergencies = one.staging.emergencies
        first = await emergencies.approve_policy(NAME, actor=ALICE, reason="yes")
        assert (first.needed, first.is_complete) == (2, False)
        assert not oncall_passes(one)
        with pytest.raises(Conflict, match=f"{ALICE} has approved of {NAME} already"):
            await emergencies.approve_policy(NAME, actor=ALICE, reason="again")
        await emergencies.approve_policy(NAME, actor=BOB, reason="yes")
        assert oncall_passes(one)

    tell(tmp_path, story, policies=policies)


def test_an_approval_ends_with_the_policy(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        await one.apply(f"{CLOSED}\n---\n{break_glass()}")
        await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason="yes")
        clock.advance(EXPIRES - clock.now() - timedelta(seconds=1))
        one.staging.live.lay()
        assert oncall_passes(one)
        clock.advance(timedelta(seconds=1))
        assert not oncall_passes(one)
        one.staging.live.lay()
        assert one.policies.overlay.approvals == frozenset()
        assert one.metric("meshca_authz_break_glass_in_force", kind="policy") == 0
        with pytest.raises(RequestRefused) as refused:
            await one.staging.emergencies.approve_policy(NAME, actor=CAROL, reason="late")
        assert refused.value.reason == "over"

    tell(tmp_path, story)


def test_a_policy_that_was_away_is_not_opened_by_who_approved_of_it_before(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        emergencies = one.staging.emergencies
        await one.apply(f"{CLOSED}\n---\n{break_glass()}", author=ALICE)
        await emergencies.approve_policy(NAME, actor=BOB, reason="yes")
        await one.apply(CLOSED, author=CAROL)
        await one.apply(f"{CLOSED}\n---\n{break_glass()}", author=BOB)
        await one.staging.live.load()
        assert not oncall_passes(one), "Bob alone: author and only approver"
        async with replica(one.engine, clock=clock) as other:
            assert not oncall_passes(other)
        with pytest.raises(RequestRefused, match=f"{BOB} brought"):
            await emergencies.approve_policy(NAME, actor=BOB, reason="me")
        approval = await emergencies.approve_policy(NAME, actor=ALICE, reason="yes")
        assert [approver.actor for approver in approval.approvers] == [ALICE]
        assert oncall_passes(one)

    tell(tmp_path, story)


def test_who_approved_before_a_policy_was_away_can_approve_again(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        for reason in ("yes", "again"):
            await one.apply(f"{CLOSED}\n---\n{break_glass()}", author=ALICE)
            await one.staging.live.load()
            assert not oncall_passes(one)
            await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason=reason)
            assert oncall_passes(one)
            await one.apply(CLOSED, author=CAROL)

    tell(tmp_path, story)


def test_an_approval_stands_while_other_sets_keep_the_policy(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        await one.apply(f"{CLOSED}\n---\n{break_glass()}", author=ALICE)
        await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason="yes")
        more = to_yaml(document("more", "shop", rules=[{}], selector={"app": "more"}))
        await one.apply(f"{more}\n---\n{CLOSED}\n---\n{break_glass()}", author=BOB)
        await one.staging.live.load()
        assert oncall_passes(one)
        async with replica(one.engine, clock=clock) as other:
            assert oncall_passes(other)

    tell(tmp_path, story)


def test_an_approval_of_what_an_applied_set_brought_is_none_of_a_directory(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()

    async def story(one: Replica, _: FakeClock) -> None:
        await one.apply(f"{CLOSED}\n---\n{break_glass()}", author=ALICE)
        await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason="yes")
        await one.apply(CLOSED, author=CAROL)
        (policies / "oncall.yaml").write_text(break_glass())
        assert await one.loader.reload()
        await one.staging.live.load()
        assert not oncall_passes(one)
        for actor in (BOB, CAROL):
            assert not oncall_passes(one)
            await one.staging.emergencies.approve_policy(NAME, actor=actor, reason="yes")
        assert oncall_passes(one)

    tell(tmp_path, story, policies=policies)


def test_only_a_break_glass_policy_that_is_there_can_be_approved(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        with pytest.raises(NotFound, match="no policy shop/nothing"):
            await one.staging.emergencies.approve_policy("shop/nothing", actor=BOB, reason="x")
        with pytest.raises(RequestRefused) as refused:
            await one.staging.emergencies.approve_policy("shop/all", actor=BOB, reason="x")
        assert refused.value.reason == "no_break_glass"

    tell(tmp_path, story)


def test_the_author_of_a_candidate_cannot_approve_what_it_brings(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        changes, emergencies = one.staging.changes, one.staging.emergencies
        await changes.stage(f"{CLOSED}\n---\n{break_glass()}", author=BOB, reason="x")
        with pytest.raises(RequestRefused, match=f"{BOB} brought"):
            await emergencies.approve_policy(NAME, actor=BOB, reason="x")
        await changes.promote(actor=ALICE, reason="x", to=None, namespaces=["shop"])
        assert not oncall_passes(one)
        await emergencies.approve_policy(NAME, actor=ALICE, reason="x")
        assert oncall_passes(one)

    tell(tmp_path, story)


async def approved_in_canary(one: Replica) -> None:
    await one.staging.changes.stage(f"{CLOSED}\n---\n{break_glass()}", author=ALICE, reason="x")
    await one.staging.changes.promote(actor=ALICE, reason="x", namespaces=["shop"])
    await one.staging.emergencies.approve_policy(NAME, actor=BOB, reason="yes")
    assert oncall_passes(one)


def test_an_approval_of_a_candidate_stands_once_it_is_enforced(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        await approved_in_canary(one)
        await one.staging.changes.promote(actor=ALICE, reason="x")
        assert one.staging.live.staged is None
        assert oncall_passes(one)
        await one.apply(CLOSED, author=CAROL)
        await one.apply(f"{CLOSED}\n---\n{break_glass()}", author=BOB)
        await one.staging.live.load()
        assert not oncall_passes(one)

    tell(tmp_path, story)


def test_an_approval_of_a_candidate_is_none_of_another_candidate(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        await approved_in_canary(one)
        changes = one.staging.changes
        await changes.withdraw(actor=CAROL, reason="no")
        await changes.stage(f"{CLOSED}\n---\n{break_glass()}", author=BOB, reason="x")
        await changes.promote(actor=BOB, reason="x", namespaces=["shop"])
        assert not oncall_passes(one)
        await changes.promote(actor=BOB, reason="x")
        assert not oncall_passes(one)

    tell(tmp_path, story)


def test_an_approval_of_a_candidate_is_none_of_what_somebody_applies(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        await approved_in_canary(one)
        await one.apply(f"{CLOSED}\n---\n{break_glass()}", author=BOB)
        await one.staging.live.load()
        assert not oncall_passes(one)

    tell(tmp_path, story)


def refusals(one: Replica) -> list[tuple[str, str]]:
    refused = [e for e in one.entries("break_glass") if e["outcome"] == "refused"]
    return [(entry["actor"], entry["details"]["step"]) for entry in refused]


def test_every_attempt_that_a_rule_refuses_is_on_record(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "oncall.yaml").write_text(break_glass())

    async def story(one: Replica, clock: FakeClock) -> None:
        emergencies = one.staging.emergencies
        expected: list[tuple[str, str]] = []
        await emergencies.approve_policy(NAME, actor=ALICE, reason="yes")
        with pytest.raises(Conflict, match="already"):
            await emergencies.approve_policy(NAME, actor=ALICE, reason="again")
        assert refusals(one) == (expected := [*expected, (ALICE, "approved")])

        with pytest.raises(RequestRefused, match="at most 4 hours"):
            await requested(one, minutes=241)
        assert refusals(one) == (expected := [*expected, (ALICE, "requested")])
        assert one.staging.live.standing.bypasses == {}

        name = await requested(one)
        clock.advance(timedelta(minutes=15))
        with pytest.raises(Conflict, match="not approved within"):
            await emergencies.approve_bypass(name, actor=BOB, reason="late")
        assert refusals(one) == (expected := [*expected, (BOB, "approved")])
        with pytest.raises(Conflict, match="not in force"):
            await emergencies.end_bypass(name, actor=CAROL, reason="late")
        assert refusals(one) == (expected := [*expected, (CAROL, "ended")])

        clock.advance(EXPIRES - clock.now())
        with pytest.raises(RequestRefused, match="is over"):
            await emergencies.approve_policy(NAME, actor=CAROL, reason="late")
        assert refusals(one) == [*expected, (CAROL, "approved")]

    tell(tmp_path, story, policies=policies)


async def requested(one: Replica, *, minutes: float = 30) -> str:
    bypass = await one.staging.emergencies.request_bypass(
        "shop",
        {"app": "orders"},
        lifetime=timedelta(minutes=minutes),
        actor=ALICE,
        reason="INC-7",
    )
    return bypass.name


def test_a_bypass_is_inert_until_somebody_else_approves(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        name = await requested(one)
        assert not one.decide().allowed
        with pytest.raises(RequestRefused) as refused:
            await one.staging.emergencies.approve_bypass(name, actor=ALICE, reason="me")
        assert refused.value.reason == "same_person"
        assert not one.decide().allowed
        await one.staging.emergencies.approve_bypass(name, actor=BOB, reason="yes")
        decision = one.decide()
        assert (decision.allowed, decision.outcome) == (True, Outcome.BYPASS)
        assert not one.decide(to=ITEMS).allowed, "only what was asked for"
        assert one.metric("meshca_authz_break_glass_in_force", kind="bypass") == 1
        with pytest.raises(Conflict, match="in force already"):
            await one.staging.emergencies.approve_bypass(name, actor=CAROL, reason="yes")
        outcomes = [(e["details"]["step"], e["outcome"]) for e in one.entries("break_glass")]
        assert outcomes == [
            ("requested", "done"),
            ("approved", "refused"),
            ("approved", "done"),
            ("approved", "refused"),
        ]

    tell(tmp_path, story)


def test_a_bypass_ends_to_the_second_without_anybody(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        name = await requested(one)
        clock.advance(timedelta(minutes=14))
        await one.staging.emergencies.approve_bypass(name, actor=BOB, reason="yes")
        clock.advance(timedelta(minutes=30) - timedelta(seconds=1))
        one.staging.live.lay()
        assert one.decide().allowed
        clock.advance(timedelta(seconds=1))
        assert not one.decide().allowed, "the engine refuses before anything else happens"
        one.staging.live.lay()
        assert one.policies.overlay.bypasses == ()
        await one.staging.watch.look()
        last = one.entries("break_glass")[-1]
        assert (last["actor"], last["details"]["step"]) == ("meshca", "ended")
        assert last["reason"] == "its time is over"

    tell(tmp_path, story)


def test_a_request_that_nobody_approves_in_time_lapses(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        name = await requested(one)
        clock.advance(timedelta(minutes=15))
        with pytest.raises(Conflict, match="not approved within 15 minutes"):
            await one.staging.emergencies.approve_bypass(name, actor=BOB, reason="yes")
        await one.staging.watch.look()
        assert one.staging.live.standing.bypasses[name].state(clock.now()) is BypassState.LAPSED
        assert one.entries("break_glass")[-1]["reason"] == "nobody approved in time"

    tell(tmp_path, story)


def test_a_bypass_is_ended_by_anybody_and_stays_ended(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        emergencies = one.staging.emergencies
        name = await requested(one)
        await emergencies.approve_bypass(name, actor=BOB, reason="yes")
        await emergencies.end_bypass(name, actor=ALICE, reason="mended")
        assert not one.decide().allowed
        with pytest.raises(Conflict, match="not in force"):
            await emergencies.end_bypass(name, actor=ALICE, reason="again")
        with pytest.raises(Conflict, match="has ended"):
            await emergencies.approve_bypass(name, actor=BOB, reason="again")
        with pytest.raises(NotFound, match="no bypass bypass-00000000"):
            await emergencies.end_bypass("bypass-00000000", actor=ALICE, reason="x")

    tell(tmp_path, story)


@pytest.mark.parametrize(
    "lifetime", [timedelta(0), LONGEST_BYPASS + timedelta(seconds=1)], ids=["none", "too long"]
)
def test_a_bypass_is_for_at_most_four_hours(tmp_path: Path, lifetime: timedelta) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        with pytest.raises(RequestRefused) as refused:
            await one.staging.emergencies.request_bypass(
                "shop", {}, lifetime=lifetime, actor=ALICE, reason="x"
            )
        assert refused.value.reason == "lifetime"

    tell(tmp_path, story)


def test_setting_the_clock_back_neither_revives_nor_prolongs_a_bypass(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        ended = await requested(one, minutes=10)
        await one.staging.emergencies.approve_bypass(ended, actor=BOB, reason="yes")
        clock.advance(timedelta(minutes=10))
        one.staging.live.lay()
        clock.jump(timedelta(minutes=-9))
        one.staging.live.lay()
        assert not one.decide().allowed, "what has ended stays ended"

        running = await requested(one, minutes=10)
        await one.staging.emergencies.approve_bypass(running, actor=BOB, reason="yes")
        assert one.decide().allowed
        clock.jump(timedelta(hours=-1))
        clock.advance(timedelta(minutes=10))
        one.staging.live.lay()
        assert not one.decide().allowed, "ten minutes are ten minutes"

    tell(tmp_path, story)


def test_a_database_that_is_away_does_not_keep_a_bypass_in_force(tmp_path: Path) -> None:
    async def story(one: Replica, clock: FakeClock) -> None:
        name = await requested(one)
        await one.staging.emergencies.approve_bypass(name, actor=BOB, reason="yes")
        with one.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE staging_events RENAME TO away")
        with pytest.raises(StoreUnavailable):
            await one.staging.live.load()
        one.staging.live.lay()
        assert one.decide().allowed, "what stands, stands"
        clock.advance(timedelta(minutes=30))
        one.staging.live.lay()
        assert one.policies.overlay.bypasses == ()

    tell(tmp_path, story)


def test_an_approval_that_cannot_be_recorded_opens_nothing(tmp_path: Path) -> None:
    async def story(one: Replica, _: FakeClock) -> None:
        name = await requested(one)
        with one.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO away")
        with pytest.raises(StoreUnavailable):
            await one.staging.emergencies.approve_bypass(name, actor=BOB, reason="yes")
        assert not one.decide().allowed

    tell(tmp_path, story)
