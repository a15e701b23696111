"""Printing data: a table for people, JSON or YAML for programs.

What is printed may come from anyone who can reach a door (a pod's name, a NACK, a path), so control
characters, those of the direction of text included, never reach the terminal as they are: in a
table they are replaced, in JSON and YAML escaped. Nothing is read as markup.
"""

import json
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import typer

from meshca.cli.options import Output
from meshca.durations import format_duration

_WIDE = 100_000


def emit(output: Output, data: Any, table: Callable[[], None]) -> None:
    """Print `data` as `output` asks; `table` prints the table."""
    if output is Output.json:
        typer.echo(_escaped(json.dumps(data, indent=2, ensure_ascii=False)))
    elif output is Output.yaml:
        import yaml

        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        if any(map(_is_control, text)):
            text = yaml.safe_dump(data, sort_keys=False, allow_unicode=False)
        typer.echo(text.rstrip("\n"))
    else:
        table()


def _escaped(text: str) -> str:
    """Return JSON of the same meaning, without a character that a terminal acts upon."""
    return "".join(json.dumps(c)[1:-1] if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    """Return whether a terminal may act upon it: C1, and what changes the direction of text."""
    return character > "~" and unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print `rows` under `columns`; never cut when the output is not a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.upper(), overflow="fold", no_wrap=not sys.stdout.isatty())
    for row in rows:
        table.add_row(*(Text(safe(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else _WIDE, soft_wrap=False).print(table)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print one `name: value` a line, aligned; empty values are left out."""
    shown = [(name, safe(value)) for name, value in fields if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0) + 1
    for name, value in shown:
        typer.echo(f"{name + ':':<{width}} {value}")


def note(text: str) -> None:
    """Say something that is not data, on standard error."""
    typer.echo(text, err=True)


def safe(value: object) -> str:
    """Return `value` as one line of text without control characters."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def remaining(time: str | None) -> str:
    """Return how far `time` (RFC 3339) is away: `in 59m 3s`, or `5m 1s ago`."""
    from meshca.clock import SystemClock

    if not time:
        return ""
    distance = datetime.fromisoformat(time) - SystemClock().now()
    text = format_duration(abs(distance))
    return f"in {text}" if distance.total_seconds() >= 0 else f"{text} ago"
