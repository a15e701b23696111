"""A stretch of the log: found without an index, and held to what was signed."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from audit.checkpoint import Checkpoint
from audit.log import Log, Stored
from audit.stretch import read_stretch, stretch_of
from meshca.errors import EvidenceBroken
from tests.audit.index.world import START, append, entries
from tests.audit.tampering import execute, rebuild_tree, rewrite

SIZE = 700
STRETCH = range(100, 401)


@pytest.fixture
def engine(both_engines: sa.Engine) -> sa.Engine:
    """A log of an entry a second; entry 500 has the time of entry 410."""
    append(both_engines, entries(0, SIZE))
    return both_engines


def signed(engine: sa.Engine, size: int = SIZE) -> Checkpoint:
    return Checkpoint("log", size, Log(engine).root_at(size))


def between(engine: sa.Engine, first: int, end: int) -> range:
    return stretch_of(engine, START + timedelta(seconds=first), START + timedelta(seconds=end))


def read(engine: sa.Engine, stretch: range, checkpoint: Checkpoint | None) -> list[Stored]:
    return list(read_stretch(Log(engine), stretch, checkpoint))


def test_the_stretch_of_a_time_has_all_entries_of_it(engine: sa.Engine) -> None:
    assert between(engine, 100, 401) == STRETCH
    assert between(engine, 405, 411) == range(405, 501), "entry 500 is of the time of 410"
    assert between(engine, -99, 2_000) == range(SIZE)
    assert between(engine, 2_000, 3_000) == range(SIZE, SIZE)
    assert between(engine, -199, -99) == range(0)
    half = timedelta(seconds=100.5)
    assert stretch_of(engine, START + half, START + half * 1.001) == range(101, 101)


@pytest.mark.parametrize("stretch", [STRETCH, range(SIZE), range(0), range(SIZE, SIZE)])
@pytest.mark.parametrize("size", [SIZE, SIZE - 100])
def test_a_stretch_leads_to_the_root_that_was_signed(
    engine: sa.Engine, stretch: range, size: int
) -> None:
    stretch = range(min(stretch.start, size), min(stretch.stop, size))
    found = read(engine, stretch, signed(engine, size))
    assert [stored.index for stored in found] == list(stretch)


def test_an_entry_that_was_rewritten_tree_and_all_is_not_what_was_signed(
    engine: sa.Engine,
) -> None:
    kept = signed(engine)
    rewrite(engine, 200, outcome="failed")
    with pytest.raises(EvidenceBroken, match="are not those that were signed"):
        read(engine, STRETCH, kept)
    rebuild_tree(engine)
    with pytest.raises(EvidenceBroken, match="`meshca audit verify`"):
        read(engine, STRETCH, kept)
    assert len(read(engine, STRETCH, None)) == len(STRETCH), "nothing signed, nothing to hold to"


def test_an_entry_that_was_taken_out_is_missed_without_a_checkpoint_too(engine: sa.Engine) -> None:
    execute(engine, "DELETE FROM audit_entries WHERE leaf_index = 200")
    with pytest.raises(EvidenceBroken, match="are not those that were signed"):
        read(engine, STRETCH, None)


@pytest.mark.parametrize("edge", [100, 400])
def test_a_time_that_was_changed_to_hide_an_entry_at_an_end_is_noticed(
    engine: sa.Engine, edge: int
) -> None:
    time = 0 if edge == STRETCH.start else 2**52
    execute(engine, "UPDATE audit_entries SET time = :t WHERE leaf_index = :i", t=time, i=edge)
    found = between(engine, 100, 401)
    assert edge not in found
    with pytest.raises(EvidenceBroken, match=f"column time of entry {edge} differs"):
        read(engine, found, signed(engine))
