"""The option `--key`: a public key of the log, as C2SP signed notes write it, or files of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshca.cli.failure import CommandFailed

if TYPE_CHECKING:
    from audit.note import VerifierKey

KeyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="PUB|FILE",
        help="A public key of the log (`meshca audit keys`), or a file of them, one a line.",
    ),
]


def parse_keys(given: list[str] | None) -> "list[VerifierKey]":
    """Return the keys that `--key` names; raises CommandFailed for what is none."""
    return [key for text in given or () for key in _keys(text)]


def _keys(text: str) -> "list[VerifierKey]":
    from audit.note import NoteRefused, VerifierKey

    try:
        if text.count("+") >= 2:
            return [VerifierKey.parse(text)]
        lines = Path(text).read_text(encoding="utf-8").split()
        found = [VerifierKey.parse(line) for line in lines]
    except (OSError, UnicodeDecodeError, NoteRefused) as error:
        raise CommandFailed(f"--key {text}: {error}", exit_status=2) from error
    if not found:
        raise CommandFailed(f"--key {text}: there is no key in it", exit_status=2)
    return found
