"""What a figure is: rows of measured numbers, each with the target it has to reach, if any.

Numbers of a shared machine move by the hour, so every CPU time is also given as a multiple of the
floor: one ECDSA P-256 verification and one signature, measured in the same seconds.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from benchmarks.floor import Floor, mean_floor, measure_floor

_T = TypeVar("_T")
Advance = Callable[[int], None]
"""Tells how many steps of the work under way are done in all."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound that a number has to keep: at least `bound`, or at most, if not `is_minimum`."""

    bound: float
    is_minimum: bool = True

    def is_met(self, value: float) -> bool:
        """Return whether `value` keeps the bound."""
        return value >= self.bound if self.is_minimum else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.is_minimum else '≤'} {format_number(self.bound)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number; `ratio` compares it with something measured in the same run."""

    what: str
    value: float
    unit: str
    ratio: str = ""
    target: Target | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a figure may use: how much to do, and where to show that it is being done."""

    is_quick: bool = False
    console: Console = field(default_factory=lambda: Console(stderr=True))

    def scale(self, full: int, quick: int) -> int:
        """Return how much to do in this run."""
        return quick if self.is_quick else full

    def floor(self) -> Floor:
        """Measure the floor now, beside whatever is compared with it."""
        return measure_floor(seconds=0.1 if self.is_quick else 0.3)

    def beside_floor(self, measure: Callable[[], _T]) -> tuple[Floor, _T]:
        """Return what `measure` returns, and the floor around it."""
        before = self.floor()
        measured = measure()
        return mean_floor(before, self.floor()), measured

    @contextmanager
    def progress(self, what: str, steps: int) -> Iterator[Advance]:
        """Show a bar on standard error while `what` goes on."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        bar = Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True)
        with bar:
            task: TaskID = bar.add_task(what, total=steps)
            yield lambda done: bar.update(task, completed=done)


class Figure(Protocol):
    """A module of this package that measures something."""

    TITLE: str

    def run(self, context: Context) -> Iterable[Row]:
        """Measure and yield the rows as they become known."""
        ...


def format_number(value: float) -> str:
    """Return `value` with about three digits that mean something, thousands separated."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
