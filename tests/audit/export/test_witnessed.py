"""Exports and what witnesses have cosigned: the trailer has a cosignature wherever there is one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from meshca.errors import RequestRefused, Unavailable
from tests.audit.export.world import LogWorld, a_witness, log_world

WITNESS = a_witness()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[LogWorld]:
    with log_world(tmp_path) as world:
        world.fill(3)
        world.sign()
        world.fill(3)
        world.sign(witnesses=[WITNESS])
        world.fill(300)
        for _ in range(3):
            world.fill(1)
            world.sign()
        yield world


def test_what_a_witness_has_seen_can_be_exported_alone(world: LogWorld) -> None:
    verdict = world.verify(world.export(is_witnessed=True), witnesses=[WITNESS.verifier])

    assert verdict.signed.checkpoint.size == 6
    with pytest.raises(RequestRefused, match="holds entries 0 to 5"):
        world.export(is_witnessed=True, stop=7)


def test_a_part_that_a_witness_has_seen_has_its_cosignature(world: LogWorld) -> None:
    verdict = world.verify(world.export(start=1, stop=5), witnesses=[WITNESS.verifier])

    assert verdict.signed.checkpoint.size == 6
    assert world.verify(world.export(stop=7)).signed.checkpoint.size == 309


def test_without_any_witness_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    with log_world(tmp_path / "alone") as world:
        world.fill(3)
        world.sign()
        with pytest.raises(Unavailable, match="no checkpoint is cosigned by a witness yet"):
            world.export(is_witnessed=True)
