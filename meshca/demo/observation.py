"""What the demo looks for, and what it saw."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from meshca.clock import Clock
from meshca.errors import MeshcaError

POLL_SECONDS = 0.02


class DemoFailed(MeshcaError):
    """The story cannot go on: something did not start, ended, or did not happen in time."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was looked at: `what`, what should have been seen, and what was."""

    what: str
    expected: str
    seen: str
    held: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """A table that a step shows; nothing is judged by it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step that takes its time has come: `done` of `total`."""

    what: str
    done: int
    total: int


Seen = Observation | Listing | Progress


def observe(what: str, *, expected: object, seen: object) -> Observation:
    """Return the observation that `seen` should equal `expected`."""
    return Observation(what, str(expected), str(seen), seen == expected)


def wait_until(
    condition: Callable[[], bool], *, within_seconds: float, what: str, clock: Clock
) -> float:
    """Poll `condition` until it holds and return the seconds that took.

    Raises DemoFailed, naming `what` was awaited, after `within_seconds`.
    """
    start = clock.monotonic()
    while not condition():
        if clock.monotonic() - start > within_seconds:
            raise DemoFailed(f"not within {within_seconds:g} s: {what}")
        time.sleep(POLL_SECONDS)
    return clock.monotonic() - start
