"""A witness whose database was put back cosigns nothing more: this machine remembers."""

import asyncio
import shutil
from pathlib import Path

import pytest

from audit.merkle import EMPTY_ROOT
from audit.witness.memory import WitnessMemory
from audit.witness.store import Seen, read_seen
from meshca.errors import EvidenceBroken, StoreUnavailable
from tests.audit.anchors.notes import ORIGIN, SmallLog
from tests.audit.witness.world import watched
from tests.fakes import FakeClock
from tests.stores import sqlite_engine

OTHER_VIEW = SmallLog(view="other")


@pytest.mark.parametrize("put_back_to", [3, 0])
def test_a_database_that_was_put_back_is_not_believed(put_back_to: int, tmp_path: Path) -> None:
    async def story() -> None:
        clock = FakeClock()
        before, now = tmp_path / "before", tmp_path / "now"
        now.mkdir()
        with sqlite_engine(now) as engine:
            async with watched(engine, machine=tmp_path, clock=clock) as world:
                if put_back_to:
                    await world.ask(0, put_back_to)
        shutil.copytree(now, before)
        with sqlite_engine(now) as engine:
            async with watched(engine, machine=tmp_path, clock=clock) as world:
                await world.ask(put_back_to, 5)
        with sqlite_engine(before) as engine:
            async with watched(engine, machine=tmp_path, clock=clock) as world:
                for log in (OTHER_VIEW, SmallLog()):
                    answer = await world.ask(put_back_to, 9, log)
                    assert (answer.status, answer.outcome) == (503, "forgotten")
                assert read_seen(engine, ORIGIN).size == put_back_to
                assert world.counted("forgotten") == 2

    asyncio.run(story())


def test_it_is_remembered_before_the_cosignature_goes_out(tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "witnessed.json"
        with sqlite_engine(tmp_path) as engine:
            async with watched(engine, machine=tmp_path) as world:
                await world.ask(0, 5)
                with pytest.raises(EvidenceBroken, match="with 5 entries"):
                    WitnessMemory(path).check(ORIGIN, Seen(4, EMPTY_ROOT))
                path.unlink()
                path.mkdir()  # the disk takes nothing
                answer = await world.ask(5, 6)
                assert (answer.status, answer.outcome) == (503, "unavailable")

    asyncio.run(story())


def test_nothing_is_cosigned_again_that_the_disk_did_not_take(tmp_path: Path) -> None:
    async def story() -> None:
        now, before = tmp_path / "now", tmp_path / "before"
        now.mkdir()
        clock, obstacle = FakeClock(), tmp_path / ".witnessed.json.part"
        with sqlite_engine(now) as engine:
            async with watched(engine, machine=tmp_path, clock=clock) as world:
                await world.ask(0, 5)
        shutil.copytree(now, before)
        with sqlite_engine(now) as engine:
            async with watched(engine, machine=tmp_path, clock=clock) as world:
                obstacle.mkdir()  # what is remembered can be read, and the disk takes nothing
                for old in (5, 9):  # the database goes forward, and then it is the same again
                    answer = await world.ask(old, 9)
                    assert (answer.status, answer.outcome, world.seen().size) == (
                        503,
                        "unavailable",
                        9,
                    )
                obstacle.rmdir()
                assert (await world.ask(9, 9)).status == 200
        with sqlite_engine(before) as engine:
            async with watched(engine, machine=tmp_path, clock=clock) as world:
                assert (await world.ask(5, 9, OTHER_VIEW)).outcome == "forgotten"

    asyncio.run(story())


def test_what_is_remembered_never_becomes_less(tmp_path: Path) -> None:
    memory = WitnessMemory(tmp_path / "witnessed.json")
    memory.remember(ORIGIN, Seen(5, b"r" * 32))

    for less in (Seen(4, b"r" * 32), Seen(5, b"x" * 32)):
        with pytest.raises(EvidenceBroken, match="put back or changed"):
            memory.remember(ORIGIN, less)
    memory.remember(ORIGIN, Seen(5, b"r" * 32))


def test_holds_each_log_to_size_and_root(tmp_path: Path) -> None:
    memory, seen = WitnessMemory(tmp_path / "m" / "witnessed.json"), Seen(5, b"r" * 32)
    memory.check(ORIGIN, Seen())

    memory.remember(ORIGIN, seen)
    memory.remember("other.test/log", Seen(9, b"o" * 32))

    memory.check(ORIGIN, seen)
    memory.check(ORIGIN, Seen(6, b"x" * 32))
    memory.check("new.test/log", Seen())
    for forgotten in (Seen(), Seen(4, b"r" * 32), Seen(5, b"x" * 32)):
        with pytest.raises(EvidenceBroken, match="put back or changed"):
            memory.check(ORIGIN, forgotten)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": ["x", "y"]}'])
def test_a_file_that_is_not_ours_stops_the_witness(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "witnessed.json"
    path.write_bytes(content)
    path.chmod(0o600)

    with pytest.raises(StoreUnavailable, match="not what was written there"):
        WitnessMemory(path).check(ORIGIN, Seen())
