"""The tables of authorities and roots: a step is taken by one only, and never half."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from meshca.errors import Conflict, NotFound
from rotation.roots import NewRoot, RootChange, Roots, RootStage, unknown
from rotation.stages import Stage
from rotation.standings import NewAuthority, StageChange, Standings, new_authority
from tests.builders import make_authority
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

CLOCK = FakeClock()
NOW = CLOCK.now()


def prepared(number: int = 1, key: bytes | None = None) -> NewAuthority:
    """Return the record of a prepared authority."""
    authority = make_authority(number=number)
    return new_authority(authority, replica="main", at=NOW, reason="a test", key=key)


def change(new: NewAuthority, before: Stage, after: Stage) -> StageChange:
    """Return a change of its stage."""
    return StageChange(new.standing.authority_id, before, after, NOW, "a test")


def write(engine: sa.Engine, *groups: tuple[object, ...]) -> list[BaseException | None]:
    """Submit each group at the same moment; return what became of each."""

    async def story() -> list[BaseException | None]:
        async with writer_of(engine) as writer:
            return await asyncio.gather(
                *(writer.submit(*group) for group in groups), return_exceptions=True
            )

    return asyncio.run(story())


def test_an_authority_is_read_as_it_was_written(tmp_path: Path) -> None:
    new = prepared(key=b"wrapped")
    with sqlite_engine(tmp_path) as engine:
        assert write(engine, (new,)) == [None]
        (row,) = Standings(engine).of("main")
        assert Standings(engine).of("another") == []
        assert Standings(engine).get(new.standing.authority_id) == row
    assert row.standing == new.standing
    assert (row.key, row.root_sha256) == (b"wrapped", new.root_sha256)


def test_an_unknown_one_is_not_found(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine, pytest.raises(NotFound, match="no authority ab"):
        Standings(engine).get("ab")


def test_of_two_who_take_the_same_step_one_is_refused(tmp_path: Path) -> None:
    new = prepared()
    step = change(new, Stage.PREPARED, Stage.PUBLISHED)
    with sqlite_engine(tmp_path) as engine:
        write(engine, (new,))
        outcomes = write(engine, (step,), (step,))
    assert sorted(type(o).__name__ for o in outcomes) == ["Conflict", "NoneType"]


def test_a_takeover_is_whole_or_not_at_all(tmp_path: Path) -> None:
    first, second = prepared(1), prepared(2)
    takeover = (
        change(second, Stage.PUBLISHED, Stage.ACTIVE),
        change(first, Stage.ACTIVE, Stage.RETIRING),  # it is not active: somebody tainted it
    )
    with sqlite_engine(tmp_path) as engine:
        write(engine, (first,), (second,))
        write(engine, (change(second, Stage.PREPARED, Stage.PUBLISHED),))
        (outcome,) = write(engine, takeover)
        stage = Standings(engine).get(second.standing.authority_id).standing.stage
    assert isinstance(outcome, Conflict)
    assert stage is Stage.PUBLISHED


@pytest.mark.parametrize("end", [Stage.TAINTED, Stage.RETIRED])
def test_what_signs_no_more_keeps_no_key(end: Stage, tmp_path: Path) -> None:
    new = prepared(key=b"wrapped")
    with sqlite_engine(tmp_path) as engine:
        write(engine, (new,))
        write(engine, (change(new, Stage.PREPARED, end),))
        assert Standings(engine).get(new.standing.authority_id).key is None


def test_a_root_changes_only_from_the_stage_it_was_decided_on(tmp_path: Path) -> None:
    (first,) = unknown([make_authority(number=1).root], [], at=NOW)
    name = first.root.root_sha256
    step = RootChange(name, RootStage.ANNOUNCED, RootStage.TRUSTED, NOW, "a test")
    with sqlite_engine(tmp_path) as engine:
        assert write(engine, (first,)) == [None]
        (outcome,) = write(engine, (step,))
        assert isinstance(outcome, Conflict)
        assert Roots(engine).get(name) == first.root
        (twice,) = write(engine, (NewRoot(replace(first.root, number=2)),))
        assert isinstance(twice, Conflict)


def test_only_the_first_roots_are_trusted_at_once() -> None:
    old, new = make_authority(number=1).root, make_authority(number=2).root
    (first,) = unknown([old], [], at=NOW)
    assert first.root.stage is RootStage.TRUSTED
    (second,) = unknown([new, old, new], [first.root], at=NOW + timedelta(days=1))
    assert (second.root.stage, second.root.number) == (RootStage.ANNOUNCED, 2)
