"""`meshca audit export`: the log, or a part of it, as a file for others."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import typer

from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, UrlOption, instant
from meshca.cli.output import note, safe

_PROGRESS_ENTRIES: Final = 10_000


class Format(StrEnum):
    """What an export looks like."""

    jsonl = "jsonl"
    csv = "csv"
    ocsf = "ocsf"
    cef = "cef"


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca audit`."""
    app.command()(export)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to ask the server for, and how many bytes of the file to keep."""

    parameters: dict[str, Any]
    keep: int | None = None


def export(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE|-", help="Where to; `-` is standard output."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Go on with an export that was interrupted."),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="jsonl proves itself; the others are for reading.")
    ] = Format.jsonl,
    since: Annotated[
        str | None,
        typer.Option(parser=instant, metavar="TIME|AGE", help="From then on: 15m, 2h, RFC 3339."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(parser=instant, metavar="TIME|AGE", help="Before then.")
    ] = None,
    from_index: Annotated[
        int | None, typer.Option("--from-index", "--cursor", min=0, help="From this entry on.")
    ] = None,
    to_index: Annotated[int | None, typer.Option(min=0, help="Before this entry.")] = None,
    witnessed: Annotated[
        bool, typer.Option("--witnessed", help="Only what a witness has cosigned already.")
    ] = False,
    kind: Annotated[str | None, typer.Option(help="Only of this kind.")] = None,
    outcome: Annotated[str | None, typer.Option(help="done, refused or failed.")] = None,
    actor: Annotated[str | None, typer.Option(help="Only by this actor.")] = None,
    identity: Annotated[
        str | None, typer.Option("--identity", metavar="SPIFFE_ID", help="About this identity.")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="From this cluster.")] = None,
    namespace: Annotated[str | None, typer.Option(help="From this namespace.")] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Write the log to a file: as JSON Lines that prove themselves, CSV, OCSF or CEF.

    All that is signed for, or a part: by index, by time, or filtered. What is interrupted is gone
    on with by --resume. Verify a JSON Lines export with `meshca audit verify-export`.

    Example: meshca audit export --since 90d -o last-quarter.jsonl
    """
    filters = {
        "kind": kind,
        "outcome": outcome,
        "actor": actor,
        "spiffe_id": identity,
        "cluster": cluster,
        "namespace": namespace,
    }
    times = {"since": since, "until": until}
    asked = _Asked(
        {"format": format_.value, "from": from_index, "to": to_index, **times, **filters}
        | ({"witnessed": "true"} if witnessed else {})
    )
    if (out is None) == (resume is None):
        raise CommandFailed("name a file: -o FILE, or --resume FILE", exit_status=2)
    if resume is not None:
        asked = _resumed(resume, asked)
    file = out or resume
    assert file is not None  # noqa: S101  # one of the two is given
    client = connect(config, url)
    with _opened(file, asked.keep) as stream:
        try:
            count = _copy(client.chunks("/audit/export", **asked.parameters), stream)
        except (CommandFailed, KeyboardInterrupt) as error:
            raise _broken_off(error, file) from error
    note(f"{count} lines written{'' if str(file) == '-' else f' to {safe(file)}'}")


def _copy(pieces: Iterator[bytes], stream: BinaryIO) -> int:
    """Write `pieces`; return how many lines they were. Progress is shown on a terminal."""
    lines = shown = 0
    for piece in pieces:
        _write(stream, piece)
        lines += piece.count(b"\n")
        if sys.stderr.isatty() and lines - shown >= _PROGRESS_ENTRIES:
            shown = lines
            typer.echo(f"\r{lines} lines", nl=False, err=True)
    if shown:
        typer.echo("\r", nl=False, err=True)
    return lines


def _write(stream: BinaryIO, piece: bytes) -> None:
    """Write all of `piece`; raises CommandFailed when the disk is full, or nobody reads."""
    left = memoryview(piece)
    try:
        while left:
            left = left[stream.write(left) :]
        stream.flush()
    except OSError as error:
        raise CommandFailed(f"cannot write: {error.strerror}") from error


@contextmanager
def _opened(file: Path, keep: int | None) -> Iterator[BinaryIO]:
    """Yield where to write: a new file for our eyes only, or the end of one that is there."""
    if str(file) == "-":
        if sys.stdout.isatty():
            text = "an export holds text of strangers, and is not for a terminal"
            raise CommandFailed(text, hint="name a file: -o FILE", exit_status=2)
        yield sys.stdout.buffer
        return
    try:
        if keep is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            stream: Any = os.fdopen(os.open(file, flags, 0o600), "wb", buffering=0)
        else:
            stream = file.open("r+b", buffering=0)
            stream.truncate(keep)
            stream.seek(keep)
    except FileExistsError as error:
        hint = f"go on with it: --resume {file}; or name another file"
        raise CommandFailed(f"{file} is there already", hint=hint) from error
    except OSError as error:
        raise CommandFailed(f"cannot write {file}: {error.strerror}") from error
    with stream:
        yield stream


def _resumed(file: Path, asked: _Asked) -> _Asked:
    """Return what to ask for to go on with `file`; raises CommandFailed."""
    from audit.export.partial import look
    from meshca.errors import RequestRefused

    try:
        partial = look(file)
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror}") from error
    except (RequestRefused, ValueError, KeyError, TypeError) as error:
        raise CommandFailed(f"cannot go on with {file}: {error}") from error
    if partial.is_complete:
        raise CommandFailed(f"{file} is complete")
    if partial.keep == 0:
        return replace(asked, keep=0)
    parameters = {**asked.parameters, "format": partial.format, "continued": "true"}
    if partial.next is not None:
        parameters["from"] = partial.next
    if partial.header is not None:
        parameters |= {"to": partial.header["to"], "since": None, "until": None}
        parameters |= dict(partial.header["filter"])
    return _Asked(parameters, partial.keep)


def _broken_off(error: BaseException, file: Path) -> CommandFailed:
    what = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
    is_begun = str(file) != "-" and file.stat().st_size > 0
    if not is_begun and str(file) != "-":
        file.unlink()
    hint = f"go on: meshca audit export --resume {file}" if is_begun else ""
    return CommandFailed(what, hint=hint or getattr(error, "hint", ""))
