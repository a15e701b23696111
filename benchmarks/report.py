"""The table of a run: for the eye, and as Markdown for docs/benchmarks.md."""

import re
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.figure import Row, format_number

Measured = Sequence[tuple[str, Sequence[Row]]]
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_HEADING = "### "
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
        lines += ["", f"{_HEADING}{title}", "", *_table(rows)]
    return "\n".join(lines) + "\n"


def put_into(document: str, machine: Mapping[str, str], figures: Measured) -> str:
    """Return `document` with the run between its marks; raises ValueError when it has none."""
    before, _, after = _parts(document)
    return f"{before}{_BEGIN}\n{markdown(machine, figures)}{_END}{after}"


def merge_into(document: str, machine: Mapping[str, str], figures: Measured) -> str:
    """Return `document` with the run's tables in place of those of the same title, or after them.

    Each says on what it was measured, since the others were not measured in the same run. Raises
    ValueError when the document has no marks.
    """
    before, held, after = _parts(document)
    head, *sections = re.split(f"^{_HEADING}", held, flags=re.MULTILINE)
    tables = {section.partition("\n")[0]: section.partition("\n")[2] for section in sections}
    apart = "Measured apart: " + " · ".join(f"{name}: {value}" for name, value in machine.items())
    for title, rows in figures:
        tables[title] = "\n".join(("", apart, "", *_table(rows), ""))
    text = head.rstrip("\n") + "\n"
    for title, table in tables.items():
        text += f"\n{_HEADING}{title}\n{table.rstrip()}\n"
    return f"{before}{_BEGIN}{text}{_END}{after}"


def _parts(document: str) -> tuple[str, str, str]:
    """Return what is before the marks, between them, and after them."""
    before, begin, rest = document.partition(_BEGIN)
    held, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the document has no {_BEGIN} and {_END}")
    return before, held, after


def _table(rows: Sequence[Row]) -> list[str]:
    return [_line(_HEADINGS), _line(("---",) * len(_HEADINGS)), *(_line(_cells(r)) for r in rows)]


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
