"""A staged change walks draft, shadow, canary, enforce; each step is what it says, and audited."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from authz.overlay import NO_OVERLAY
from authz.policy import Stage
from authz.staging.operations import StagedChanges
from authz.store import get, latest_version
from meshca.errors import Conflict, InvalidDocument, NotFound, RequestRefused, StoreUnavailable
from tests.authz.builders import document, to_yaml
from tests.authz.staging.world import (
    ALICE,
    BOB,
    CLOSED,
    ITEMS,
    OPEN,
    ORDERS,
    Replica,
    replica,
)
from tests.stores import sqlite_engine

Story = Callable[[Replica], Awaitable[None]]


def tell(directory: Path, story: Story, *, policies: Path | None = None) -> None:
    """Run `story` on a replica in which everybody may call everybody."""

    async def whole() -> None:
        with sqlite_engine(directory) as engine:
            async with replica(engine, directory=policies) as one:
                await one.apply(OPEN)
                await story(one)

    asyncio.run(whole())


async def at(one: Replica, stage: Stage, *namespaces: str) -> StagedChanges:
    """Stage CLOSED and take it to `stage`."""
    changes = one.staging.changes
    await changes.stage(CLOSED, author=ALICE, reason="CHG-7")
    if stage is not Stage.DRAFT:
        await changes.promote(actor=BOB, reason="on", to=stage, namespaces=namespaces)
    return changes


def test_a_draft_is_nowhere_in_force_and_not_on_trial(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        await at(one, Stage.DRAFT)
        assert one.policies.overlay == NO_OVERLAY
        assert (one.decide().allowed, one.decide().shadow) == (True, None)
        assert one.staging.live.candidate is not None, "but it is there to be diffed and replayed"
        assert one.staging.live.documents() == CLOSED
        assert one.metric("meshca_authz_staged_change", stage="draft") == 1

    tell(tmp_path, story)


def test_in_shadow_it_is_decided_beside_what_is_in_force(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        await at(one, Stage.SHADOW)
        guest, web = one.decide("guest"), one.decide("web")
        assert guest.allowed
        assert guest.shadow is not None
        assert not guest.shadow.allowed
        assert web.shadow is not None
        assert web.shadow.allowed

    tell(tmp_path, story)


def test_a_canary_is_in_force_in_its_namespaces_and_in_shadow_elsewhere(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        await at(one, Stage.CANARY, "stock")
        shadow = one.decide(to=ORDERS).shadow
        assert (one.decide(to=ITEMS).allowed, one.decide(to=ORDERS).allowed) == (False, True)
        assert shadow is not None
        assert not shadow.allowed

    tell(tmp_path, story)


def test_enforced_it_is_the_next_applied_set_of_its_author(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, Stage.CANARY, "stock")
        assert await changes.promote(actor=BOB, reason="it held") is None
        assert one.policies.overlay == NO_OVERLAY
        assert not one.decide().allowed
        applied = get(one.engine, 2)
        assert (applied.documents, applied.author, applied.reason) == (CLOSED, ALICE, "it held")
        assert one.staging.live.staged is None

    tell(tmp_path, story)


def test_each_step_goes_to_the_next_stage_and_is_audited_with_who_and_why(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, Stage.DRAFT)
        await changes.promote(actor=BOB, reason="look")
        await changes.promote(actor=BOB, reason="try", namespaces=["stock"])
        await changes.promote(actor=ALICE, reason="hold")
        staged = [
            (e["actor"], e["reason"], e["details"]["step"]) for e in one.entries("policy_stage")
        ]
        assert staged == [
            (ALICE, "CHG-7", "staged"),
            (BOB, "look", "promoted"),
            (BOB, "try", "promoted"),
        ]
        (enforced,) = one.entries("policy_change")
        assert (enforced["actor"], enforced["reason"]) == (ALICE, "hold")
        assert (enforced["details"]["author"], enforced["details"]["applied_version"]) == (ALICE, 2)
        told = enforced["details"]
        assert (told["counts"]["changed"], len(told["changed"])) == (2, 2)
        assert all(old != new for old, new in told["digests"]["changed"])
        assert "\n-" in told["diff"], "the texts' difference from the applied set"
        (first, *_) = one.entries("policy_stage")
        assert first["details"]["diff"] == told["diff"]

    tell(tmp_path, story)


def test_withdrawn_it_is_nowhere_and_another_may_be_staged(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, Stage.CANARY, "stock")
        await changes.withdraw(actor=BOB, reason="postponed")
        assert one.policies.overlay == NO_OVERLAY
        assert one.decide(to=ITEMS).allowed
        with pytest.raises(NotFound, match="nothing is staged"):
            await changes.withdraw(actor=BOB, reason="again")
        await at(one, Stage.DRAFT)

    tell(tmp_path, story)


def test_one_candidate_at_a_time(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, Stage.DRAFT)
        with pytest.raises(Conflict, match=f"candidate 1 of {ALICE} is at draft"):
            await changes.stage(OPEN, author=BOB, reason="mine")

    tell(tmp_path, story)


def test_what_does_not_load_with_the_rest_is_not_staged(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        wrong = to_yaml(document("bad", action="BLOCK"))
        with pytest.raises(InvalidDocument, match="'BLOCK'"):
            await one.staging.changes.stage(wrong, author=ALICE, reason="x")
        assert one.staging.live.staged is None

    tell(tmp_path, story)


@pytest.mark.parametrize(
    ("stage", "to", "namespaces", "code"),
    [
        (Stage.SHADOW, None, [], "no_namespaces"),
        (Stage.SHADOW, Stage.SHADOW, [], "already_there"),
        (Stage.SHADOW, Stage.ENFORCE, ["stock"], "namespaces"),
        (Stage.SHADOW, Stage.DRAFT, [], "backwards"),
        (Stage.CANARY, Stage.CANARY, ["stock"], "already_there"),
    ],
    ids=["no namespaces", "same stage", "namespaces elsewhere", "back to draft", "same canary"],
)
def test_refuses_a_step_that_cannot_be_meant(
    tmp_path: Path, stage: Stage, to: Stage | None, namespaces: list[str], code: str
) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, stage, *(["stock"] if stage is Stage.CANARY else []))
        with pytest.raises(RequestRefused) as refused:
            await changes.promote(actor=BOB, reason="x", to=to, namespaces=namespaces)
        assert refused.value.reason == code

    tell(tmp_path, story)


def test_a_canary_may_move_to_other_namespaces_and_back_to_shadow(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, Stage.CANARY, "stock")
        await changes.promote(actor=BOB, reason="wider", namespaces=["stock", "shop"])
        assert one.policies.overlay.canary == {"stock", "shop"}
        await changes.promote(actor=BOB, reason="hm", to=Stage.SHADOW)
        assert one.policies.overlay.canary == frozenset()
        assert one.policies.overlay.candidate is not None

    tell(tmp_path, story)


def test_enforcing_over_a_set_that_was_applied_in_between_must_be_asked_for(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, Stage.SHADOW)
        await one.apply(to_yaml(document("urgent", action="DENY", rules=[{}])), author=BOB)
        with pytest.raises(Conflict, match="applied set 2 came after"):
            await changes.promote(actor=BOB, reason="x", to=Stage.ENFORCE)
        assert latest_version(one.engine) == 2
        assert one.staging.live.staged is not None
        await changes.promote(actor=BOB, reason="x", to=Stage.ENFORCE, rebase=True)
        assert get(one.engine, 3).documents == CLOSED
        (enforced,) = one.entries("policy_change")
        assert enforced["details"]["rebased"] is True

    tell(tmp_path, story)


def test_a_candidate_is_loaded_with_what_directories_say_now(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()

    async def story(one: Replica) -> None:
        await at(one, Stage.CANARY, "stock")
        deny = to_yaml(document("no-web", "stock", action="DENY", rules=[{}]))
        (policies / "deny.yaml").write_text(deny)
        assert await one.loader.reload()
        await one.staging.live.load()
        assert not one.decide("web", ITEMS).allowed, "the canary has the directory's deny, too"

    tell(tmp_path, story, policies=policies)


def test_a_candidate_that_does_not_load_any_more_is_not_on_trial(tmp_path: Path) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()
    other = to_yaml(document("else", "shop", rules=[{}]))

    async def story(one: Replica) -> None:
        await one.apply(other)
        changes = await at(one, Stage.CANARY, "stock")
        assert not one.decide(to=ITEMS).allowed
        (policies / "all.yaml").write_text(to_yaml(document("all", "stock", rules=[{}])))
        assert await one.loader.reload()
        await one.staging.live.load()
        assert one.policies.overlay.candidate is None
        assert one.decide(to=ITEMS).allowed, "canary namespaces have what is in force"
        assert any("already defined" in str(p) for p in one.staging.live.problems)
        with pytest.raises(InvalidDocument, match="already defined"):
            await changes.promote(actor=BOB, reason="x")

    tell(tmp_path, story, policies=policies)


def test_a_step_that_cannot_be_recorded_changes_nothing(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, Stage.SHADOW)
        with one.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO away")
        for step in (
            changes.promote(actor=BOB, reason="x", namespaces=["stock"]),
            changes.promote(actor=BOB, reason="x", to=Stage.ENFORCE),
        ):
            with pytest.raises(StoreUnavailable):
                await step
        assert latest_version(one.engine) == 1
        assert one.policies.overlay.canary == frozenset()
        staged = one.staging.live.staged
        assert staged is not None
        assert staged.stage is Stage.SHADOW
        with one.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_entries")

    tell(tmp_path, story)


def test_two_steps_at_once_are_not_both_taken(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        changes = await at(one, Stage.SHADOW)
        outcomes = await asyncio.gather(
            changes.promote(actor=BOB, reason="x", namespaces=["stock"]),
            changes.withdraw(actor=ALICE, reason="no"),
            return_exceptions=True,
        )
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [type(error) for error in failed] == [Conflict]
        assert len(one.entries("policy_stage")) == 3

    tell(tmp_path, story)


def test_what_stands_survives_a_restart(tmp_path: Path) -> None:
    async def whole() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with replica(engine) as one:
                await one.apply(OPEN)
                await at(one, Stage.CANARY, "stock")
                version = one.policies.version
            async with replica(engine) as again:
                assert again.policies.version == version
                assert not again.decide(to=ITEMS).allowed

    asyncio.run(whole())


def test_a_database_that_is_away_leaves_what_stands(tmp_path: Path) -> None:
    async def story(one: Replica) -> None:
        await at(one, Stage.CANARY, "stock")
        with one.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE staging_events RENAME TO away")
        with pytest.raises(StoreUnavailable):
            await one.staging.live.load()
        one.staging.live.lay()
        assert not one.decide(to=ITEMS).allowed

    tell(tmp_path, story)


def test_while_the_database_is_away_the_candidate_is_loaded_with_what_is_new(
    tmp_path: Path,
) -> None:
    policies = tmp_path / "policies"
    policies.mkdir()

    async def story(one: Replica) -> None:
        await at(one, Stage.CANARY, "stock")
        assert one.decide("web", ITEMS).allowed
        rename(one, "staging_events", "away")
        following = asyncio.create_task(one.staging.live.run())
        (policies / "deny.yaml").write_text(
            to_yaml(document("no", "stock", action="DENY", rules=[{}]))
        )
        assert await one.loader.reload()
        await until(lambda: not one.decide("web", ITEMS).allowed)
        assert one.policies.overlay.canary == {"stock"}
        (policies / "deny.yaml").unlink()
        assert await one.loader.reload()
        await until(lambda: one.decide("web", ITEMS).allowed)
        assert not one.decide("guest", ITEMS).allowed
        following.cancel()
        rename(one, "away", "staging_events")

    tell(tmp_path, story, policies=policies)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def rename(one: Replica, table: str, to: str) -> None:
    with one.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")
