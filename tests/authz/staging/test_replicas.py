"""Two replicas on one database: a step at one is in force at the other, and none is taken twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from authz.overlay import NO_OVERLAY
from authz.policy import Stage
from meshca.clock import SystemClock
from meshca.errors import Conflict
from tests.authz.builders import document, to_yaml
from tests.authz.staging.world import ALICE, BOB, CLOSED, ITEMS, OPEN, Replica, replica
from tests.stores import sqlite_engine

Story = Callable[[Replica, Replica], Awaitable[None]]


@asynccontextmanager
async def running(one: Replica) -> AsyncIterator[None]:
    """Run the loops of a replica."""
    loops = (one.feed.run, one.loader.run, one.staging.live.run, one.staging.watch.run)
    tasks = [asyncio.create_task(loop()) for loop in loops]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def tell(directory: Path, story: Story) -> None:
    """Run `story` on two replicas that run, in which everybody may call everybody."""

    async def whole() -> None:
        clock = SystemClock()
        with sqlite_engine(directory) as engine, sqlite_engine(directory) as other:
            async with AsyncExitStack() as stack:
                one = await stack.enter_async_context(replica(engine, clock=clock, name="one"))
                two = await stack.enter_async_context(replica(other, clock=clock, name="two"))
                await one.apply(OPEN)
                for each in (one, two):
                    await stack.enter_async_context(running(each))
                await until(lambda: two.decide().allowed)
                await story(one, two)

    asyncio.run(whole())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def begin_canary(one: Replica) -> None:
    await one.staging.changes.stage(CLOSED, author=ALICE, reason="x")
    await one.staging.changes.promote(actor=BOB, reason="x", namespaces=["stock"])


def test_a_step_at_one_is_in_force_at_the_other(tmp_path: Path) -> None:
    async def story(one: Replica, two: Replica) -> None:
        await begin_canary(one)
        await until(lambda: not two.decide(to=ITEMS).allowed)
        assert two.policies.version == one.policies.version
        await two.staging.changes.promote(actor=BOB, reason="x")
        await until(lambda: one.policies.overlay == NO_OVERLAY)
        assert one.policies.version == two.policies.version
        assert not one.decide().allowed

    tell(tmp_path, story)


def test_a_canary_that_is_enforced_is_in_force_all_the_time(tmp_path: Path) -> None:
    async def story(one: Replica, two: Replica) -> None:
        two.loader.poll_seconds = 60  # it hears of the step before it looks for applied sets
        await begin_canary(one)
        await until(lambda: not two.decide(to=ITEMS).allowed)
        seen: list[bool] = []
        two.loader.state.subscribe(lambda: seen.append(two.decide(to=ITEMS).allowed))
        await one.staging.changes.promote(actor=BOB, reason="x")
        await until(lambda: two.policies.overlay == NO_OVERLAY)
        assert seen
        assert not any(seen), "never back to what was before the canary"

    tell(tmp_path, story)


def test_what_is_enforced_elsewhere_is_in_force_here_though_a_file_is_broken(
    tmp_path: Path,
) -> None:
    async def story(one: Replica, two: Replica) -> None:
        (tmp_path / "policies" / "own.yaml").write_text("spec: [")
        assert not await two.loader.reload()
        await one.staging.changes.promote(actor=BOB, reason="x")
        await two.staging.live.load()
        assert (two.staging.live.staged, two.policies.overlay) == (None, NO_OVERLAY)
        assert (two.decide().allowed, two.decide(to=ITEMS).allowed) == (False, False)
        assert two.loader.problems

    tell_stopped(tmp_path, story)


def test_a_canary_that_was_enforced_stays_until_the_applied_set_can_be_read(
    tmp_path: Path,
) -> None:
    async def story(one: Replica, two: Replica) -> None:
        await one.staging.changes.promote(actor=BOB, reason="x")
        rename(one, "policy_sets", "away")
        for _i in range(2):
            await two.staging.live.load()
            assert two.staging.live.is_over
            assert (two.decide().allowed, two.decide(to=ITEMS).allowed) == (True, False)
        two.observe("guest", ITEMS)
        two.observe("robot", ITEMS)
        await two.staging.watch.look()
        assert not two.decide(to=ITEMS).allowed, "it is not taken back any more"
        rename(one, "away", "policy_sets")
        await two.staging.live.load()
        assert (two.staging.live.staged, two.policies.overlay) == (None, NO_OVERLAY)
        assert (two.decide().allowed, two.decide(to=ITEMS).allowed) == (False, False)

    tell_stopped(tmp_path, story)


def tell_stopped(directory: Path, story: Story) -> None:
    """Run `story` on two replicas that do not run: CLOSED is on trial in `stock` at both.

    The second one has a directory, `policies`, with a policy that has no part in it.
    """
    policies = directory / "policies"
    policies.mkdir()
    (policies / "own.yaml").write_text(to_yaml(document("own", "far")))

    async def whole() -> None:
        with sqlite_engine(directory) as engine:
            async with replica(engine) as one:
                await one.apply(OPEN)
                await begin_canary(one)
                async with replica(engine, directory=policies, name="two") as two:
                    assert not two.decide(to=ITEMS).allowed
                    await story(one, two)

    asyncio.run(whole())


def rename(one: Replica, table: str, to: str) -> None:
    with one.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")


def test_of_two_steps_at_two_replicas_one_is_taken(tmp_path: Path) -> None:
    async def story(one: Replica, two: Replica) -> None:
        await begin_canary(one)
        await until(lambda: two.staging.live.staged is not None)
        outcomes = await asyncio.gather(
            one.staging.changes.promote(actor=BOB, reason="x", to=Stage.SHADOW),
            two.staging.changes.withdraw(actor=ALICE, reason="x"),
            return_exceptions=True,
        )
        failed = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert all(isinstance(error, Conflict) for error in failed), failed
        await one.staging.live.load()
        await two.staging.live.load()
        assert one.staging.live.standing == two.staging.live.standing
        assert len(one.entries("policy_stage")) == 4 - len(failed)

    tell(tmp_path, story)


def test_a_step_on_what_is_not_so_any_more_is_refused(tmp_path: Path) -> None:
    async def story(one: Replica, two: Replica) -> None:
        await begin_canary(one)
        staged = one.staging.live.staged
        assert staged is not None
        await two.staging.changes.promote(actor=BOB, reason="x", to=Stage.SHADOW)
        with pytest.raises(Conflict, match="another step"):
            await one.staging.changes.fall_back(staged, "late", {})

    tell(tmp_path, story)


def test_a_fall_back_at_one_is_one_at_the_other(tmp_path: Path) -> None:
    async def story(one: Replica, two: Replica) -> None:
        await begin_canary(one)
        await until(lambda: not two.decide(to=ITEMS).allowed)
        two.observe("guest", ITEMS)
        one.observe("robot", ITEMS)
        await until(lambda: one.decide(to=ITEMS).allowed and two.decide(to=ITEMS).allowed)
        steps = [entry["details"]["step"] for entry in one.entries("policy_stage")]
        assert steps == ["staged", "promoted", "fell_back"]

    tell(tmp_path, story)


def test_a_bypass_ends_everywhere_without_anybody(tmp_path: Path) -> None:
    async def story(one: Replica, two: Replica) -> None:
        await one.apply(CLOSED)
        await until(lambda: not two.decide().allowed)
        asked = await one.staging.emergencies.request_bypass(
            "shop", {}, lifetime=timedelta(seconds=2), actor=ALICE, reason="x"
        )
        await until(lambda: asked.name in two.staging.live.standing.bypasses)
        approved = await two.staging.emergencies.approve_bypass(asked.name, actor=BOB, reason="y")
        await until(lambda: one.decide().allowed and two.decide().allowed)
        assert approved.expires is not None
        await until(lambda: not (one.policies.overlay.bypasses or two.policies.overlay.bypasses))
        late = SystemClock().now() - approved.expires
        assert timedelta(0) <= late < timedelta(seconds=1)
        await until(lambda: len(one.entries("break_glass")) == 3)
        assert one.entries("break_glass")[-1]["actor"] == "meshca"

    tell(tmp_path, story)
