"""`meshca audit verify-index`: whether the index finds all that is in the log."""

from typing import Any

import typer

from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, load_settings
from meshca.cli.output import emit, note, print_table


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca audit`."""
    app.command("verify-index")(verify_index)


def verify_index(
    config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.table
) -> None:
    """Make each segment of the index again, of its entries, and compare; exit 1 says which differ.

    An index that was changed hides entries from queries and counts, and no proof of the log
    notices; reports do not read it. This reads the database of --config itself, whether a server
    runs or not, and changes nothing. That the entries are as they were logged says `meshca audit
    verify`: ask first; with --index it does both, at a server.

    Example: meshca audit verify && meshca audit verify-index
    """
    from audit.index.check import check_index, in_short
    from meshca.database import open_engine

    engine = open_engine(load_settings(config).database_url)
    try:
        answer = in_short(check_index(engine))
    finally:
        engine.dispose()
    emit(output, answer, lambda: print_index(answer))
    if answer["wrong"]:
        raise typer.Exit(1)


def print_index(answer: dict[str, Any]) -> None:
    """Print which segments are wrong, or that none is."""
    wrong = answer["wrong"]
    if wrong:
        print_table(list(wrong[0]), [list(one.values()) for one in wrong])
        note("answers are not to be trusted: docs/runbooks/audit-index.md says what to do")
    else:
        typer.echo(f"{answer['segments']} segments of {answer['entries']} entries are well")
