"""Counting by the minute: what the event loop does of it, and what a thread does."""

import time

from authz.records.counting import MinuteCounts
from authz.records.operation import Operation
from authz.records.tables import Outcome
from tests.fakes import FakeClock

ROWS = 5_000


def test_the_rows_of_a_minute_are_made_by_who_asks_for_them() -> None:
    """Thousands of rows take tens of milliseconds, in which no call would be answered."""
    counts, clock = MinuteCounts(operations_a_pair=ROWS, rows_a_minute=4 * ROWS), FakeClock()
    for number in range(ROWS):
        operation = Operation("a", "b", "shop", "{}", "http", 80, "GET", f"/{number}", "shop")
        assert counts.add(operation, Outcome(True), clock.now(), 2)
    started = time.perf_counter()
    (minute,) = counts.take(clock.now(), with_current=True)
    taken = time.perf_counter()
    rows = minute.counted()
    assert taken - started < (time.perf_counter() - taken) / 10
    assert len(rows) == ROWS
    assert minute.total == sum(row.count for row in rows) == 2 * ROWS
    assert counts.take(clock.now(), with_current=True) == []
