"""Strangers may cause so much work a second, and no more."""

from datetime import timedelta

import pytest

from ca.ocsp.allowance import Allowance
from meshca.errors import Overloaded
from tests.fakes import FakeClock


def test_what_is_over_the_allowance_is_refused_until_time_passes() -> None:
    clock = FakeClock()
    allowance = Allowance(10, clock)
    allowance.take(10)

    with pytest.raises(Overloaded):
        allowance.take()
    clock.advance(timedelta(seconds=0.1))
    allowance.take()
    with pytest.raises(Overloaded):
        allowance.take()


def test_no_more_than_a_second_is_saved_up() -> None:
    clock = FakeClock()
    allowance = Allowance(10, clock)
    clock.advance(timedelta(hours=1))
    allowance.take(10)

    with pytest.raises(Overloaded):
        allowance.take()


def test_the_wall_clock_is_not_asked() -> None:
    clock = FakeClock()
    allowance = Allowance(10, clock)
    allowance.take(10)
    clock.jump(timedelta(days=1))

    with pytest.raises(Overloaded):
        allowance.take()


def test_what_is_refused_costs_nothing() -> None:
    allowance = Allowance(10, FakeClock())
    allowance.take(5)

    with pytest.raises(Overloaded):
        allowance.take(6)
    allowance.take(5)
