"""Decisions that are interrupted are finished, and a hundred thousand at once are no trouble."""

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from audit.verify import verify
from ca.revocation.operations import BATCH, HEARD_AFTER, INTERRUPTED_AFTER, BanRequest
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.sinks import RevokedSink
from ca.revocation.store import Closed, Revocations, Revoked, revocations
from meshca.database import Sink
from meshca.errors import StoreUnavailable
from tests.ca.revocation.world import WHO, World, intent, issue, revoking
from tests.fakes import FakeClock
from tests.real_parts import ROOT, wait_until
from tests.stores import SINKS, sqlite_engine

GOOD = Reason.keyCompromise
NODE = Selector(node="node-1")
COUNT = 2 * BATCH + 10


@dataclass
class BreaksAfter:
    """Writes a few batches, and then the disk is full."""

    batches: int
    sink: RevokedSink

    def write(self, connection: sa.Connection, records: Sequence[Revoked]) -> None:
        """Write, or fail."""
        if self.batches == 0:
            raise OSError("no space left on device")
        self.batches -= 1
        self.sink.write(connection, records)


def breaking(batches: int) -> Mapping[type, Sink]:
    return {**SINKS, Revoked: BreaksAfter(batches, RevokedSink())}


def many(clock: FakeClock, count: int = COUNT) -> list[Any]:
    return [intent(f"f{number:06x}", clock) for number in range(count)]


async def interrupted(
    engine: sa.Engine, clock: FakeClock, *, batches: int = 1, ban: BanRequest | None = None
) -> None:
    """Let a process decide to revoke everything of a node, and fail after `batches`."""
    async with revoking(engine, clock=clock, sinks=breaking(batches)) as world:
        with pytest.raises(StoreUnavailable):
            await world.operations.revoke(NODE, GOOD, confirmed=COUNT, ban=ban, **WHO)
        assert len(world.operations.revocations.open_decisions()) == 1


def serials(engine: sa.Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(sa.select(revocations.c.serial)).scalars())


def play(engine: sa.Engine, story: Callable[[FakeClock], Awaitable[None]]) -> None:
    asyncio.run(story_of(story))


async def story_of(story: Callable[[FakeClock], Awaitable[None]]) -> None:
    await story(FakeClock())


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_what_was_interrupted_is_finished_at_the_next_start(
    engine: sa.Engine, batches: int
) -> None:
    async def story(clock: FakeClock) -> None:
        issue(engine, *many(clock))
        await interrupted(engine, clock, batches=batches)
        assert len(serials(engine)) == batches * BATCH
        clock.advance(timedelta(minutes=5))
        async with revoking(engine, clock=clock) as world:
            await world.operations.resume()

            assert len(world.revoked()) == COUNT
            (decision,) = {r.decision for r in world.state.live().values()}
            kept = world.operations.revocations.decision(decision)
            assert (kept.is_open, kept.count, kept.actor) == (False, COUNT, "uid:0")
            assert {r.reason for r in world.state.live().values()} == {GOOD}
            assert world.operations.revocations.open_decisions() == []
        verify(engine)

    play(engine, story)


@pytest.mark.parametrize("ban", [None, BanRequest()], ids=["alone", "with a ban"])
def test_what_was_issued_since_is_not_hit_by_an_old_decision(
    engine: sa.Engine, ban: BanRequest | None
) -> None:
    async def story(clock: FakeClock) -> None:
        issue(engine, *many(clock))
        await interrupted(engine, clock, ban=ban)
        clock.advance(timedelta(minutes=5))
        issue(engine, intent("a1", clock))
        async with revoking(engine, clock=clock) as world:
            await world.operations.resume()

            assert len(world.revoked()) == COUNT
            assert "a1" not in world.revoked()

    play(engine, story)


def test_what_was_released_since_is_not_held_again_by_an_old_decision(engine: sa.Engine) -> None:
    async def story(clock: FakeClock) -> None:
        issue(engine, *many(clock))
        async with revoking(engine, clock=clock, sinks=breaking(1)) as world:
            with pytest.raises(StoreUnavailable):
                await world.operations.revoke(NODE, Reason.certificateHold, confirmed=COUNT, **WHO)
        async with revoking(engine, clock=clock) as world:
            released = sorted(world.revoked())[0]
            await world.operations.release(released, **WHO)
            await world.operations.resume()

            assert len(world.revoked()) == COUNT - 1
            assert released not in world.revoked()

    play(engine, story)


def test_what_another_replica_issued_before_it_heard_of_a_ban_is_revoked(
    engine: sa.Engine,
) -> None:
    async def story(clock: FakeClock) -> None:
        issue(engine, intent("a1", clock))
        async with revoking(engine, clock=clock) as world:
            outcome = await world.operations.revoke(NODE, GOOD, ban=BanRequest(), **WHO)
            issue(engine, intent("a2", clock))
            await world.operations.sweep()
            assert world.revoked() == {"a1"}, "others may not have heard yet"
            clock.advance(HEARD_AFTER)
            await world.operations.sweep()
            assert world.revoked() == {"a1", "a2"}
            assert world.operations.revocations.decision(outcome.decision).count == 2

            issue(engine, intent("a3", clock))
            await world.operations.sweep()
            assert world.revoked() == {"a1", "a2"}, "it is done once"

    play(engine, story)


def test_once_its_ban_is_lifted_a_decision_hits_nothing_more(engine: sa.Engine) -> None:
    async def story(clock: FakeClock) -> None:
        issue(engine, intent("a1", clock))
        async with revoking(engine, clock=clock) as world:
            outcome = await world.operations.revoke(NODE, GOOD, ban=BanRequest(), **WHO)
            assert outcome.ban is not None
            await world.operations.lift(outcome.ban.ban, **WHO)
            issue(engine, intent("a2", clock))
            clock.advance(HEARD_AFTER)
            await world.operations.sweep()

            assert world.revoked() == {"a1"}

    play(engine, story)


def test_few_are_revoked_in_one_transaction_or_not_at_all(engine: sa.Engine) -> None:
    class Breaks:
        def write(self, _connection: sa.Connection, _records: Sequence[Any]) -> None:
            raise OSError("no space left on device")

    async def story(clock: FakeClock) -> None:
        issue(engine, intent("a1", clock))
        async with revoking(engine, clock=clock, sinks={**SINKS, Closed: Breaks()}) as world:
            with pytest.raises(StoreUnavailable):
                await world.operations.revoke(NODE, GOOD, **WHO)
            assert serials(engine) == set()
            assert world.operations.revocations.open_decisions() == []
            assert world.entries("revocation") == []

    play(engine, story)


def test_a_ban_is_in_force_although_its_decision_was_interrupted(engine: sa.Engine) -> None:
    async def story(clock: FakeClock) -> None:
        issue(engine, *many(clock))
        await interrupted(engine, clock, batches=0, ban=BanRequest())
        async with revoking(engine, clock=clock) as world:
            assert [ban.selector for ban in world.state.bans] == [NODE]

    play(engine, story)


def test_an_interrupted_decision_is_finished_while_the_process_runs(engine: sa.Engine) -> None:
    async def story(clock: FakeClock) -> None:
        issue(engine, *many(clock))
        await interrupted(engine, clock)
        async with revoking(engine, clock=clock) as world:
            await world.operations.resume(older_than=INTERRUPTED_AFTER)
            assert len(world.revoked()) == BATCH, "somebody else may be at it"
            clock.advance(INTERRUPTED_AFTER)
            loop = asyncio.create_task(world.operations.run())
            try:
                async with asyncio.timeout(20):
                    while len(world.revoked()) < COUNT:
                        await asyncio.sleep(0.02)
            finally:
                loop.cancel()
                await asyncio.gather(loop, return_exceptions=True)

    play(engine, story)


def test_a_decision_under_way_is_left_to_whoever_took_it(engine: sa.Engine) -> None:
    async def story(clock: FakeClock) -> None:
        issue(engine, *many(clock))
        async with revoking(engine, clock=clock) as world:
            revoked = world.operations.revoke(NODE, GOOD, confirmed=COUNT, **WHO)
            done, _ = await asyncio.gather(revoked, resume_until_closed(world))

            assert len(done.hit) == COUNT
            assert all("resumed" not in str(entry) for entry in world.entries("revocation"))
            named = sum(str(entry).count("'f0") for entry in world.entries("revocation"))
            assert named == COUNT, "each is recorded once"

    play(engine, story)


async def resume_until_closed(world: World) -> None:
    while not (await asyncio.to_thread(world.operations.revocations.open_decisions)):
        await asyncio.sleep(0.001)
    await world.operations.resume()


def test_kill_9_between_two_batches_loses_nothing(tmp_path: Path) -> None:
    """A real process, killed: its decision is finished by the next one."""
    clock, count = FakeClock(), 20_000
    with sqlite_engine(tmp_path) as engine:
        issue(engine, *many(clock, count), sign=False)
        program = "tests.ca.revocation.revoke_many"
        command = [sys.executable, "-m", program, str(tmp_path), str(count)]
        with subprocess.Popen(command, cwd=ROOT) as process:
            wait_until(lambda: bool(serials(engine)), within_seconds=60, what="a first batch")
            process.kill()
        before = len(serials(engine))
        assert 0 < before < count, "it was killed in the middle"
        assert before % BATCH == 0, "a batch is there whole or not at all"

        async def story() -> None:
            async with revoking(engine, clock=clock) as world:
                assert len(world.state.bans) == 1
                await world.operations.resume()
                assert len(world.revoked()) == count

        asyncio.run(story())
        verify(engine)


def test_revisions_follow_commits_and_none_is_missed(engine: sa.Engine) -> None:
    """Who reads what came after the last revision it knows, again and again, has everything."""

    async def story(clock: FakeClock) -> None:
        issue(engine, *many(clock))
        store = Revocations(engine)
        known: set[str] = set()
        async with (
            revoking(engine, clock=clock) as one,
            revoking(engine, clock=clock, confirm_above=COUNT) as two,
        ):
            first = one.operations.revoke(NODE, GOOD, confirmed=COUNT, **WHO)
            second = two.operations.revoke(Selector(namespace="shop"), GOOD, **WHO)
            writing = asyncio.gather(first, second)
            revision = 0
            while not writing.done() or len(known) < COUNT:
                changes = await asyncio.to_thread(store.after, revision, now=clock.now())
                assert [c.revision for c in changes] == sorted(c.revision for c in changes)
                assert all(c.revision > revision for c in changes)
                known |= {c.serial for c in changes}
                revision = max([revision, *(c.revision for c in changes)])
                assert known or not writing.done()
            await writing
        assert known == serials(engine)

    play(engine, story)


def test_a_hundred_thousand_are_revoked_at_once(engine: sa.Engine) -> None:
    async def story(clock: FakeClock) -> None:
        count = 100_000
        for start in range(0, count, 10_000):
            numbers = range(start, start + 10_000)
            issue(engine, *(intent(f"f{n:06x}", clock, pod_uid=f"u{n}") for n in numbers))
        async with revoking(engine, clock=clock) as world, revoking(engine, clock=clock) as other:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            begun = time.monotonic()
            outcome = await world.operations.revoke(NODE, GOOD, confirmed=count, **WHO)
            took = time.monotonic() - begun
            grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024

            assert len(outcome.hit) == len(world.revoked()) == count
            assert took < 120
            assert grown_mib < 600
            await other.state.load()
            assert other.revoked() == world.revoked()

    play(engine, story)
