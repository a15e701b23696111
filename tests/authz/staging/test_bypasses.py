"""Bypasses: nothing by one person's word, nothing beyond its time."""

from datetime import timedelta
from pathlib import Path

import pytest

from authz.decision import Outcome
from authz.staging.emergencies import LONGEST_BYPASS
from authz.staging.standing import BypassState
from meshca.errors import Conflict, NotFound, RequestRefused, StoreUnavailable
from tests.authz.staging.emergencies import requested, tell
from tests.authz.staging.world import (
    ALICE,
    BOB,
    CAROL,
    ITEMS,
    Replica,
)
from tests.fakes import FakeClock


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
        with one.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_entries")

    tell(tmp_path, story)
