"""How the story looks on a terminal, and in a log when there is none."""

from collections.abc import Iterable

from rich.console import Console
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


class Screen:
    """Shows steps and what they saw; it counts what did not hold."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.held = 0
        self.failed = 0

    def title(self, number: int, text: str) -> None:
        """Begin a step."""
        self.console.print()
        self.console.print(Text(f"{number}  {text}", style="bold"))

    def bar(self) -> Bar:
        """Return a progress bar; it vanishes when its `with` block ends."""
        return Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )

    def show(self, seen: Iterable[Seen]) -> None:
        """Show everything a step yields, as it comes."""
        with self.bar() as bar:
            task = None
            for each in seen:
                if isinstance(each, Observation):
                    self._observation(each)
                elif isinstance(each, Listing):
                    self._listing(each)
                else:
                    task = bar.add_task(each.what, total=each.total) if task is None else task
                    _advance(bar, task, each)

    def failure(self, text: str) -> None:
        """Show why the story ended early."""
        self.failed += 1
        self.console.print(Text(f"   ✗ {text}", style="red"))

    def _observation(self, observation: Observation) -> None:
        self.held += observation.held
        self.failed += not observation.held
        mark, style = ("✓", "green") if observation.held else ("✗", "red")
        self.console.print(Text.assemble(("   " + mark, style), f" {observation.what}"))
        if not observation.held:
            self.console.print(Text(f"     expected: {observation.expected}", style="red"))
        self.console.print(Text(f"     saw: {observation.seen}", style="dim"))

    def _listing(self, listing: Listing) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in listing.columns:
            table.add_column(column, overflow="fold")
        for row in listing.rows:
            table.add_row(*(Text(cell) for cell in row))
        self.console.print(table)


def _advance(bar: Bar, task: TaskID, progress: Progress) -> None:
    bar.update(task, completed=progress.done, description=progress.what)
