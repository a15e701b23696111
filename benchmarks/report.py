"""The table of a run: for the eye, and as Markdown for docs/benchmarks.md."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Row, format_number

Measured = Sequence[tuple[str, Sequence[Row]]]
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_HEADINGS = ("figure", "measured", "target", "ratio in this run", "note")


def show(console: Console, machine: Mapping[str, str], figures: Measured) -> None:
    """Print every figure in one table."""
    caption = " · ".join(f"{name}: {value}" for name, value in machine.items())
    table = Table(title="meshca benchmarks", caption=caption, show_lines=False)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    for title, rows in figures:
        table.add_section()
        table.add_row(f"[bold]{title}")
        for row in rows:
            style = "red" if _falls_short(row) else None
            table.add_row(*_cells(row), style=style)
    console.print(table)


def markdown(machine: Mapping[str, str], figures: Measured) -> str:
    """Return the run as Markdown: the machine, then a table a figure."""
    lines = [f"- {name}: {value}" for name, value in machine.items()]
    for title, rows in figures:
        lines += ["", f"### {title}", "", _line(_HEADINGS), _line(("---",) * len(_HEADINGS))]
        lines += [_line(_cells(row)) for row in rows]
    return "\n".join(lines) + "\n"


def put_into(document: str, machine: Mapping[str, str], figures: Measured) -> str:
    """Return `document` with the run between its marks; raises ValueError when it has none."""
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the document has no {_BEGIN} and {_END}")
    return f"{before}{begin}\n{markdown(machine, figures)}{end}{after}"


def value(row: Row) -> str:
    """Return the measured number with its unit."""
    return f"{format_number(row.value)} {row.unit}".rstrip()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(row: Row) -> tuple[str, ...]:
    target = "" if row.target is None else f"{row.target}{' — short' if _falls_short(row) else ''}"
    return row.what, value(row), target, row.ratio, row.note


def _falls_short(row: Row) -> bool:
    return row.target is not None and not row.target.is_met(row.value)
