"""How the story looks on a terminal, and in a log when there is none."""

from collections.abc import Iterable
from contextlib import ExitStack

from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from meshca.demo.observation import Listing, Observation, Progress, Seen

_INDENT = 5


class Screen:
    """Shows steps and what they saw; it counts what held and what did not."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.held = 0
        self.failed = 0

    def title(self, number: int, text: str, explanation: str) -> None:
        """Begin a step."""
        self.console.print()
        self.console.print(Text(f"{number}  {text}", style="bold"))
        self._line(explanation, indent=3, style="italic")

    def show(self, seen: Iterable[Seen]) -> None:
        """Show everything a step yields, as it comes."""
        with ExitStack() as stack:
            bar: tuple[Bar, TaskID] | None = None
            for each in seen:
                if isinstance(each, Observation):
                    self._observation(each)
                elif isinstance(each, Listing):
                    self._listing(each)
                elif not self.console.is_terminal:
                    self._line(f"… {each.what}", indent=3, style="")
                else:
                    bar = bar or self._bar(stack, each)
                    bar[0].update(bar[1], completed=each.done, description=each.what)

    def failure(self, text: str) -> None:
        """Show why the story ended early."""
        self.failed += 1
        self._line(f"✗ {text}", indent=3, style="red")

    def conclusion(self) -> None:
        """Say whether everything held."""
        self.console.print()
        if self.failed:
            self.console.print(Text(f"{self.failed} observations did not hold", style="bold red"))
        else:
            self.console.print(Text(f"all {self.held} observations held", style="bold green"))

    def _bar(self, stack: ExitStack, first: Progress) -> tuple[Bar, TaskID]:
        """Return a progress bar that vanishes when `stack` closes."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        bar = stack.enter_context(Bar(*columns, console=self.console, transient=True))
        return bar, bar.add_task(first.what, total=first.total)

    def _observation(self, observation: Observation) -> None:
        self.held += observation.held
        self.failed += not observation.held
        mark, style = ("✓", "green") if observation.held else ("✗", "red")
        self.console.print(Text.assemble(("   " + mark, style), f" {observation.what}"))
        if not observation.held:
            self._line(f"expected: {observation.expected}", indent=_INDENT, style="red")
        self._line(f"saw: {observation.seen}", indent=_INDENT, style="dim")

    def _line(self, text: str, *, indent: int, style: str) -> None:
        self.console.print(
            Padding(Text(text, style=style, overflow="fold"), (0, 0, 0, indent), expand=False)
        )

    def _listing(self, listing: Listing) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in listing.columns:
            table.add_column(column, overflow="fold")
        for row in listing.rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(Padding(table, (0, 0, 0, 3), expand=False))
