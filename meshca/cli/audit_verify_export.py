"""`meshca audit verify-export`: what an export proves, with public keys and nothing else."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import typer

from meshca.cli.failure import CommandFailed
from meshca.cli.options import Output, OutputOption
from meshca.cli.output import emit, safe
from meshca.cli.verifier_keys import KeyOption, parse_keys

if TYPE_CHECKING:
    from audit.export.trailer import Signed
    from audit.export.verify import Verdict

_SHOWN: Final = 20


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca audit`."""
    app.command("verify-export")(verify_export)


def verify_export(
    file: Annotated[Path, typer.Argument(help="A JSON Lines export; `-` is standard input.")],
    key: KeyOption = None,
    witness: Annotated[
        list[str] | None,
        typer.Option(metavar="PUB|FILE", help="A witness that must have signed too; repeatable."),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Check an export without any server, and say what it proves; exit 1 names the first problem.

    One key of the log is enough, an old one too: the export leads from it to the newest. But
    whoever found an old key can make another log, so give the newest key, or a --witness.

    Example: meshca audit verify-export last-quarter.jsonl --key log.pub
    """
    from audit.export.lines import ExportBroken
    from audit.export.verify import Trust
    from audit.export.verify import verify_export as check

    keys, witnesses = parse_keys(key), parse_keys(witness)
    if not keys:
        raise CommandFailed("name a public key of the log with --key", exit_status=2)
    try:
        with _opened(file) as stream:
            verdict = check(stream, Trust(keys, witnesses))
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror}") from error
    except ExportBroken as error:
        if output is Output.table:
            raise CommandFailed(f"{safe(file)} does NOT verify: {safe(error)}") from error
        broken = {"verified": False, "line": error.line, "problem": str(error)}
        emit(output, broken, lambda: None)
        raise typer.Exit(1) from error
    emit(output, _json(verdict), lambda: _print(verdict))


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    with file.open("rb") as stream:
        yield stream


def _json(verdict: "Verdict") -> dict[str, Any]:
    signed = verdict.signed
    return {
        "verified": True,
        "log": verdict.log,
        "from": verdict.start,
        "to": verdict.stop,
        "shown": verdict.shown,
        "skipped": verdict.skipped,
        "filter": verdict.chosen.given(),
        "redacted": [list(one) for one in verdict.redacted],
        "redacted_unexplained": [list(one) for one in verdict.unexplained],
        "size": signed.checkpoint.size,
        "root": signed.checkpoint.root.hex(),
        "keys": [str(key) for key in signed.by],
        "by_given_key": signed.is_given,
        "retired_keys": [str(key) for key in signed.retired],
        "witnesses": [
            {"name": each.key.name, "time": _time(each.time_seconds)} for each in signed.witnesses
        ],
    }


def _print(verdict: "Verdict") -> None:
    for line in _words(verdict):
        typer.echo(safe(line))


def _words(verdict: "Verdict") -> Iterator[str]:
    """Yield what is proved, and what is not, a sentence a line."""
    size = verdict.signed.checkpoint.size
    if verdict.start == verdict.stop:
        yield f"verified: no entry of the log {verdict.log}"
    else:
        what = "are here" if not verdict.skipped else "are accounted for"
        yield (
            f"verified: entries {verdict.start} to {verdict.stop - 1} of the log {verdict.log} "
            f"{what}, in their order, none changed and none missing"
        )
    keys = ", ".join(key.key_id.hex() for key in verdict.signed.by)
    yield f"as of the checkpoint of {size} entries, signed by key {keys}"
    if not verdict.signed.is_given:
        yield "the log itself introduces that key, under checkpoints that a given key signed"
    yield from _doubts(verdict.signed)
    for each in verdict.signed.witnesses:
        yield f"witnessed by {each.key.name} at {_time(each.time_seconds)}"
    if verdict.skipped:
        names = ", ".join(f"{name}={value}" for name, value in verdict.chosen.given().items())
        yield (
            f"{verdict.shown} entries are shown, {verdict.skipped} are not; that none of these "
            f"has {names} is the word of whoever exported"
        )
    if verdict.redacted:
        yield f"redacted, only their hashes are here: {_ranges(verdict.redacted)}"
    if verdict.unexplained:
        yield (
            f"of these, no redaction entry in this file names: {_ranges(verdict.unexplained)}; "
            "it may come later in the log"
        )


def _doubts(signed: "Signed") -> Iterator[str]:
    """Yield what the keys that were given leave open."""
    for key in signed.retired:
        yield f"WARNING: the key {key.key_id.hex()} that you gave was retired, says the log"
    if not signed.witnesses:
        yield (
            "no witness was asked for: whoever has the key that you gave, or found it after it was "
            "retired, can make another log"
        )


def _ranges(ranges: Sequence[tuple[int, int]]) -> str:
    count = sum(last - first + 1 for first, last in ranges)
    shown = ", ".join(
        str(first) if first == last else f"{first}-{last}" for first, last in ranges[:_SHOWN]
    )
    return f"{count} entries: {shown}{', ...' if len(ranges) > _SHOWN else ''}"


def _time(seconds: int | None) -> str:
    """Return when a cosignature says that it was made."""
    try:
        return datetime.fromtimestamp(seconds or 0, UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s"
