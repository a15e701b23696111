"""When things are due, against the plain definition."""

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from rotation.schedule import EARLIEST, LATEST, is_due, renewal_instant, retry_delay

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
serials = st.integers(min_value=1, max_value=2**128).map(lambda n: f"{n:x}")
lives = st.timedeltas(min_value=timedelta(seconds=10), max_value=timedelta(days=30))


@given(serials, lives)
def test_the_instant_lies_between_half_and_seven_tenths_of_the_life(
    serial: str, life: timedelta
) -> None:
    instant = renewal_instant(serial, issued_at=AT, not_after=AT + life)
    passed = (instant - AT) / life
    assert EARLIEST - 1e-6 <= passed <= LATEST + 1e-6


@given(serials, lives)
def test_every_replica_computes_the_same_instant(serial: str, life: timedelta) -> None:
    first = renewal_instant(serial, issued_at=AT, not_after=AT + life)
    assert first == renewal_instant(serial, issued_at=AT, not_after=AT + life)


def test_a_fleet_that_started_together_is_spread_evenly() -> None:
    life = timedelta(hours=1)
    width = (LATEST - EARLIEST) * life / 10
    counts = [0] * 10
    for number in range(10_000):
        instant = renewal_instant(f"{number:x}", issued_at=AT, not_after=AT + life)
        counts[min(int((instant - AT - EARLIEST * life) / width), 9)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150


def test_is_due_from_the_instant_on() -> None:
    renew_at = AT + timedelta(minutes=36)
    assert not is_due(renew_at - timedelta(seconds=1), issued_at=AT, renew_at=renew_at)
    assert is_due(renew_at, issued_at=AT, renew_at=renew_at)


def test_is_due_when_the_clock_stands_before_the_issuance() -> None:
    renew_at = AT + timedelta(minutes=36)
    assert is_due(AT - timedelta(minutes=5), issued_at=AT, renew_at=renew_at)
    assert not is_due(AT - timedelta(milliseconds=500), issued_at=AT, renew_at=renew_at)


@given(st.integers(min_value=1, max_value=10_000), st.integers())
def test_retries_wait_at_most_half_a_minute_and_never_nothing(attempt: int, seed: int) -> None:
    delay = retry_delay(attempt, random.Random(seed))
    assert timedelta(seconds=0.5) <= delay <= timedelta(seconds=30.5)
