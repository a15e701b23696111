"""`meshca audit verify-index`: whether the index finds all that is in the log."""

from typing import TYPE_CHECKING, Any

import typer

from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, load_settings
from meshca.cli.output import emit, note, print_table

if TYPE_CHECKING:
    from audit.index.check import Checked


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca audit`."""
    app.command("verify-index")(verify_index)


def verify_index(
    config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.table
) -> None:
    """Make each segment of the index again, of its entries, and compare; exit 1 says which differ.

    An index that was changed hides entries from queries, counts and reports, and no proof of the
    log notices. This reads the database of --config itself, whether a server runs or not, and
    changes nothing. That the entries are as they were logged says `meshca audit verify`: ask first.

    Example: meshca audit verify && meshca audit verify-index
    """
    from audit.index.check import check_index
    from meshca.database import open_engine

    engine = open_engine(load_settings(config).database_url)
    try:
        checked = list(check_index(engine))
    finally:
        engine.dispose()
    answer = {
        "segments": len(checked),
        "entries": sum(one.segment.entries for one in checked),
        "wrong": [_json(one) for one in checked if one.problem],
    }
    emit(output, answer, lambda: _print(answer))
    if answer["wrong"]:
        raise typer.Exit(1)


def _json(checked: "Checked") -> dict[str, Any]:
    segment = checked.segment
    return {
        "segment": segment.id,
        "first_index": segment.first,
        "end_index": segment.stop,
        "problem": checked.problem,
    }


def _print(answer: dict[str, Any]) -> None:
    wrong = answer["wrong"]
    if wrong:
        print_table(list(wrong[0]), [list(one.values()) for one in wrong])
        note("answers are not to be trusted: docs/runbooks/audit-index.md says what to do")
    else:
        typer.echo(f"{answer['segments']} segments of {answer['entries']} entries are well")
