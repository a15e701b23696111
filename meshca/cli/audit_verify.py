"""`meshca audit verify`: whether the record of what happened is as it was written and signed."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from meshca.cli.audit_verify_index import print_index
from meshca.cli.audit_witnesses import find_witnessed
from meshca.cli.client import VERIFY_TIMEOUT_SECONDS, connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, UrlOption
from meshca.cli.output import emit, note
from meshca.cli.verifier_keys import KeyOption, parse_keys

MOST_ANCHORS: Final = 5_000
"""What one request takes: about 2 MB of notes."""


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca audit`."""
    app.command()(verify)


def verify(
    anchor: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Checkpoints that were kept elsewhere; repeatable."),
    ] = None,
    key: KeyOption = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="PUB|FILE", help="A witness that must have cosigned; repeatable."),
    ] = None,
    index: Annotated[
        bool,
        typer.Option("--index", help="Hold the index that finds entries to the log, too."),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Check that no entry was changed, moved or removed since it was signed; exit 1 says which.

    Every entry is held to the tree, and the tree to every checkpoint: those in the database, what
    this machine signed last, and those of --anchor. Without an anchor, whoever has the database
    and a key of the log can make another one. With --key only these keys are believed, and those
    that follow from them. With --witness a checkpoint that is kept must be cosigned by it; how many
    entries it has seen, and when, is printed.

    The search index is no part of this: one that was changed hides entries from queries, unless
    --index looks at it. Exit 1 too when it is wrong.

    Example: meshca audit verify --anchor /mnt/worm/checkpoints --key log.pub
    """
    body = {
        "anchors": _anchors(anchor or []),
        "keys": [str(believed) for believed in parse_keys(key)],
        **({"index": True} if index else {}),  # what an older server does not know
    }
    client, witnesses = connect(config, url), parse_keys(witness)
    answer = client.post("/audit/verify", body, timeout=VERIFY_TIMEOUT_SECONDS)
    if not answer["intact"] and output is Output.table:
        raise CommandFailed(f"the log is NOT intact: {answer['problem']}")
    seen = find_witnessed(client, witnesses) if answer["intact"] else []
    answer["witnesses"] = [each.as_json() for each in seen]
    emit(output, answer, lambda: _print(answer))
    if not answer["intact"] or (answer.get("index") or {}).get("wrong"):
        raise typer.Exit(1)


def _anchors(files: list[Path]) -> list[str]:
    from audit.checkpoint import read_notes
    from audit.examination import thinned

    notes: list[str] = []
    for file in files:
        try:
            found = read_notes(file.read_bytes())
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(f"cannot read {file}: {error}") from error
        if not found:
            raise CommandFailed(f"there is no checkpoint in {file}")
        notes += found
    notes = list(dict.fromkeys(notes))
    if len(notes) > MOST_ANCHORS:
        note(f"of {len(notes)} checkpoints {MOST_ANCHORS} are used: the newest, and some of all")
    return list(thinned(notes, MOST_ANCHORS))


def _print(answer: dict[str, Any]) -> None:
    typer.echo(f"intact: {answer['entries']} entries, root {answer['root']}")
    note(
        f"signed up to entry {answer['signed']}; held to {answer['checkpoints']} kept checkpoints "
        f"and {answer['anchors']} anchors; {answer['redacted']} entries are redacted"
    )
    for each in answer["keys"]:
        note(f"believed: {each}")
    for each in answer["witnesses"]:
        note(f"{each['name']} has seen {each['size']} entries at {each['time']}")
    if not answer["anchors"]:
        note("without --anchor FILE this trusts the database and the keys of the log")
    if answer.get("index") is None:
        note("the index that finds entries was not looked at: --index does that")
    else:
        note("the index that finds entries:")
        print_index(answer["index"])
