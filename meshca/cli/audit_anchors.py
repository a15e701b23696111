"""`meshca audit anchors`: whether checkpoints arrive outside, and what we witness."""

from typing import Any

import typer

from meshca.cli.client import connect
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, UrlOption
from meshca.cli.output import emit, note, print_table

_COLUMNS = ("anchor", "state", "entries", "behind", "confirmed", "problem")
_WELL = ("well", "new")


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca audit`."""
    app.command()(anchors)


def anchors(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show the places outside that keep checkpoints, and how far behind each of them is.

    contradicted: it holds what our log does not say. failing: it could not be reached, and will be
    tried again. Exit 1 when one of them is either. See docs/runbooks/audit-anchors.md.
    """
    answer = connect(config, url).get("/audit/anchors")
    emit(output, answer, lambda: _print(answer))
    if any(each["state"] not in _WELL for each in answer["anchors"]):
        raise typer.Exit(1)


def _print(answer: dict[str, Any]) -> None:
    print_table(_COLUMNS, [_row(each) for each in answer["anchors"]])
    note(f"{len(answer['anchors'])} anchors of {answer['origin']}: {answer['size']} entries signed")
    witness = answer["witness"]
    if witness is not None:
        print_table(("witnessed log", "entries", "seen"), [_seen(log) for log in witness["logs"]])
        note(f"our key as a witness: {witness['key']}")


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    when = each["confirmed_at"] or "never"
    return each["anchor"], each["state"], each["size"], each["behind"], when, each["problem"]


def _seen(log: dict[str, Any]) -> tuple[object, ...]:
    return log["origin"], log["size"], log["seen_at"] or "never"
