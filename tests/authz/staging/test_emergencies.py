"""Break-glass policies: nothing by one person's word, nothing beyond its time."""

from datetime import timedelta
from pathlib import Path

import pytest

from meshca.errors import Conflict, NotFound, RequestRefused
from tests.authz.builders import document, to_yaml
from tests.authz.staging.emergencies import NAME, oncall_passes, requested, tell
from tests.authz.staging.world import (
    ALICE,
    BOB,
    CAROL,
    CLOSED,
    EXPIRES,
    Replica,
    break_glass,
    replica,
)
from tests.fakes import FakeClock


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
