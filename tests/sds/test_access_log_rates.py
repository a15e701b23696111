"""The bounds of a holder's access log streams are forgotten when that costs nothing."""

from datetime import timedelta

from sds import access_log_rates
from sds.access_log_rates import HolderRates
from tests.fakes import FakeClock


def test_a_bucket_is_forgotten_once_it_is_full_again() -> None:
    clock = FakeClock()
    rates = HolderRates(clock, 2.0, 10.0)
    for holder in ("a", "b"):
        assert all(rates.take_in(holder).take() for _ in range(4))
        for _ in range(4):
            rates.let_go(holder)
    assert rates.remembered == 2

    clock.advance(timedelta(seconds=2))
    rates.take_in("c")
    rates.let_go("c")
    assert rates.remembered == 0


def test_what_rests_is_bounded() -> None:
    rates = HolderRates(FakeClock(), 2.0, 10.0)
    for number in range(access_log_rates.MAXIMUM_STREAMS + 5):
        rates.take_in(str(number)).take()
        rates.let_go(str(number))
    assert rates.remembered == access_log_rates.MAXIMUM_STREAMS
