"""Taking checkpoints to anchors: each in its time, again after a failure, and never over a lie."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.anchors.anchor import Published
from audit.anchors.file import FileAnchor
from audit.checkpoint import split_notes
from audit.log import Log
from tests.audit.anchors.notes import SmallLog
from tests.audit.anchors.world import EVERY, Shelf, anchored, broken
from tests.audit.signed_log import ORIGIN, signed_log
from tests.stores import sqlite_engine

HOUR = timedelta(hours=1)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    with sqlite_engine(tmp_path) as engine:
        yield engine


def test_the_newest_checkpoint_goes_to_every_anchor_in_its_time(
    both_engines: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        shelf, file = Shelf(), FileAnchor(tmp_path / "anchor", ORIGIN)
        async with anchored(both_engines, tmp_path, shelf, file) as world:
            await world.visit()
            assert shelf.held == []  # nothing was signed
            for _ in range(3):
                await world.grow()
            await world.pass_time(EVERY)
            await world.grow()
            await world.visit()  # not due yet
            size = Log(both_engines).head().size
            assert shelf.sizes() == [size - 1]
            await world.pass_time(EVERY)

            assert shelf.sizes() == [size - 1, size]
            notes = split_notes(file.path.read_text())
            assert [Published.parse(note).checkpoint.size for note in notes] == shelf.sizes()
            assert world.state().size == world.state(file.name).size == size
            assert world.measured("behind_seconds") == 0

    asyncio.run(story())


def test_an_anchor_that_is_away_for_an_hour_is_told_once_and_catches_up(
    engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        shelf, other = Shelf(), Shelf("other")
        async with anchored(engine, tmp_path, shelf, other) as world:
            await world.grow()
            await world.visit()
            shelf.go()
            before = shelf.asked
            for _ in range(60):
                await world.grow()
                await world.pass_time(EVERY)
            assert 60 <= shelf.asked - before <= 75  # at least once a minute, and not much more
            assert len(other.held) > 50  # which did not have to wait
            assert [entry["reason"] for entry in world.told()] == ["unreachable"]
            assert world.told()[0]["details"]["problem"] == "shelf: gone"
            assert (world.measured("behind_seconds") or 0) > 3000
            assert world.state().failures == shelf.asked - before

            shelf.problem = None
            await world.grow()
            await world.pass_time(EVERY * 2)

            assert shelf.sizes()[-1] == other.sizes()[-1]
            assert [entry["reason"] for entry in world.told()] == ["unreachable", "well_again"]
            assert world.measured("behind_seconds") == 0
            assert (world.state().failures, world.state().problem) == (0, "")

    asyncio.run(story())


def test_a_short_failure_is_tried_again_soon_and_is_no_entry(
    engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        shelf = Shelf()
        async with anchored(engine, tmp_path, shelf) as world:
            await world.grow()
            shelf.go()
            await world.visit()
            shelf.problem = None
            await world.pass_time(timedelta(seconds=2), timedelta(seconds=1))

            assert len(shelf.held) == 1
            assert world.told() == []

    asyncio.run(story())


def test_an_anchor_that_hangs_holds_up_no_other_and_no_signature(
    engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        hanging, other = Shelf("hanging", gate=asyncio.Event()), Shelf("other")
        async with anchored(engine, tmp_path, hanging, other) as world:
            for _ in range(3):
                await world.grow()
                world.signed.clock.advance(EVERY)
                await world.keeper.step()
                while not other.held or other.sizes()[-1] < Log(engine).head().size:
                    await asyncio.sleep(0)
            assert hanging.asked == 1
            hanging_gate = hanging.gate
            assert hanging_gate is not None
            hanging_gate.set()
            await world.keeper.settle()
            assert len(hanging.held) == 1

    asyncio.run(story())


@pytest.mark.parametrize("how", ["other log", "longer", "rewritten", "nobody's"])
def test_what_contradicts_our_log_is_an_alarm_and_nothing_is_added(
    how: str, engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        shelf = Shelf()
        async with anchored(engine, tmp_path, shelf) as world:
            await world.grow(3)
            size = Log(engine).head().size
            forged = {
                "other log": SmallLog(view="other", origin=ORIGIN).at(2),
                "longer": SmallLog(origin=ORIGIN).at(size + 100),
                "rewritten": SmallLog(view="rewritten", origin=ORIGIN).at(size),
                "nobody's": SmallLog(origin=ORIGIN).signs(size, Log(engine).root_at(size)),
            }[how]
            shelf.held.append(forged)
            await world.pass_time(HOUR)

            problem = world.state().problem
            expected = {"longer": "cut off or rolled back", "nobody's": "no key of ours signed"}
            assert expected.get(how, "not those of the log") in problem
            assert world.state().is_contradicted
            assert shelf.held == [forged]
            assert world.measured("contradicted") == 1
            assert [(e["reason"], e["outcome"]) for e in world.told()] == [
                ("contradicted", "failed")
            ]
            shelf.held.clear()
            await world.pass_time(EVERY)
            assert world.measured("contradicted") == 0
            assert len(shelf.held) == 1

    asyncio.run(story())


@pytest.mark.parametrize("left", [0, 1], ids=["nothing", "less"])
def test_an_anchor_that_was_emptied_is_an_alarm_and_is_not_begun_again(
    left: int, engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        shelf, file = Shelf(), FileAnchor(tmp_path / "anchor", ORIGIN)
        async with anchored(engine, tmp_path, shelf, file) as world:
            for _ in range(2):
                await world.grow()
                await world.pass_time(EVERY)
            held, sizes = file.path.read_text(), shelf.sizes()
            notes = split_notes(held)
            file.path.write_text("".join(notes[:left]))
            taken = [shelf.held.pop() for _ in notes[left:]]
            confirmed = world.state().confirmed_at
            world.restart()
            await world.pass_time(EVERY * 5)
            await world.grow()
            await world.pass_time(EVERY * 5)

            for name in (shelf.name, file.name):
                assert world.state(name).is_contradicted
                assert world.state(name).confirmed_at == confirmed
                assert "it was emptied, cut off or replaced" in world.state(name).problem
                assert world.measured("contradicted", name) == 1
            assert [entry["reason"] for entry in world.told()] == ["contradicted"] * 2
            assert shelf.sizes() == sizes[:left]
            assert file.path.read_text() == "".join(notes[:left])

            shelf.held.extend(reversed(taken))
            file.path.write_text(held)
            await world.pass_time(EVERY * 2)
            assert world.measured("contradicted") == world.measured("contradicted", file.name) == 0
            assert len(split_notes(file.path.read_text())) == len(shelf.held) > 2

    asyncio.run(story())


def test_what_cannot_be_read_is_not_asked_for_what_it_holds(
    engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        shelf = Shelf(is_readable=False)
        async with anchored(engine, tmp_path, shelf) as world:
            await world.grow()
            await world.pass_time(EVERY)
            shelf.held.clear()  # a collector shows nothing
            await world.pass_time(EVERY * 3)
            assert shelf.held == []
            assert not world.state().is_contradicted
            await world.grow()
            await world.pass_time(EVERY)
            assert len(shelf.held) == 1

    asyncio.run(story())


def test_a_database_that_was_rolled_back_is_seen_by_its_anchor(tmp_path: Path) -> None:
    async def story() -> None:
        (tmp_path / "old").mkdir()
        shelf = Shelf()
        with sqlite_engine(tmp_path) as engine:
            async with anchored(engine, tmp_path, shelf) as world:
                await world.grow(3)
                with (
                    closing(sqlite3.connect(tmp_path / "meshca.db")) as current,
                    closing(sqlite3.connect(tmp_path / "old" / "meshca.db")) as copy,
                ):
                    current.backup(copy)
                await world.grow(3)
                await world.visit()
        keys = tmp_path / "keys"
        keys.rename(tmp_path / "old" / "keys")
        with sqlite_engine(tmp_path / "old") as engine:
            async with anchored(engine, tmp_path / "old", shelf) as world:
                await world.visit()
                assert world.state().is_contradicted
                assert "cut off or rolled back" in world.state().problem

    asyncio.run(story())


def test_one_replica_takes_them_and_another_goes_on(tmp_path: Path) -> None:
    async def story() -> None:
        one, two = Shelf(), Shelf()
        with sqlite_engine(tmp_path) as engine:
            async with anchored(engine, tmp_path, one) as first:
                await first.grow()
                await first.visit()
                async with signed_log(engine, tmp_path / "b", replica="b") as signed:
                    second = type(first)(signed, [two])
                    await second.visit()
                    assert (len(one.held), len(two.held)) == (1, 0)
                    assert second.measured("behind_seconds") is None
                    first.signed.locks.close()
                    await second.visit()
                    assert two.asked == 1  # it has the state of the first
                    await first.visit()
                    assert first.measured("behind_seconds") is None

    asyncio.run(story())


def test_it_goes_on_after_a_restart_and_while_the_database_takes_nothing(
    engine: sa.Engine, tmp_path: Path
) -> None:
    async def story() -> None:
        shelf = Shelf()
        async with anchored(engine, tmp_path, shelf) as world:
            await world.grow()
            shelf.go()
            await world.pass_time(timedelta(minutes=10))
            assert len(world.told()) == 1
            world.restart()
            await world.pass_time(timedelta(minutes=10))
            assert len(world.told()) == 1  # it is known to be away
            shelf.problem = broken()
            await world.pass_time(timedelta(minutes=2))
            assert [e["reason"] for e in world.told()] == ["unreachable", "contradicted"]
            shelf.problem = RuntimeError("a mistake of ours")
            await world.pass_time(timedelta(minutes=2))
            assert "a mistake of ours" in world.state().problem

    asyncio.run(story())
