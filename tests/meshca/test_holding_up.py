"""What may hold up a call that the event loop has to answer: the collector, and busy threads."""

import gc
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from meshca.service import calm_collector, share_interpreter

ROUNDS = 20


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Give the process back to the other tests as they know it."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


def test_the_collector_looks_at_few_objects_at_a_time_and_seldom_at_old_ones() -> None:
    """A look at twenty thousand held up what was due meanwhile for up to twenty milliseconds."""
    calm_collector()
    young, between, old = gc.get_threshold()
    assert young <= 1_000
    assert young * between >= 400_000
    assert old >= 50


def test_a_thread_that_computes_gives_way_to_the_loop_soon() -> None:
    """Who comes back from waiting twenty times does not wait 5 ms each time, as by default."""
    share_interpreter()
    is_over = threading.Event()

    def compute() -> None:
        while not is_over.is_set():
            sum(range(1_000))

    busy = threading.Thread(target=compute)
    busy.start()
    try:
        waited = min(_wait_a_while() for _ in range(5))
    finally:
        is_over.set()
        busy.join()
    assert waited < ROUNDS * 0.0025


def _wait_a_while() -> float:
    """Return how long it takes to come back as many times from a pause of nothing."""
    started = time.perf_counter()
    for _ in range(ROUNDS):
        time.sleep(0)
    return time.perf_counter() - started
