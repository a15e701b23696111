"""`meshca audit report` and `verify-report`: a period, signed, and checked without a server."""

from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    instant,
)
from meshca.cli.output import emit, note, print_fields
from meshca.cli.verifier_keys import KeyOption, parse_keys

if TYPE_CHECKING:
    from audit.checkpoint import Checkpoint
    from audit.note import VerifierKey

TIMEOUT_SECONDS = 1_860.0
MAXIMUM_BYTES = 256 * 1024 * 1024


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca audit`."""
    app.command()(report)
    app.command("verify-report")(verify_report)


def report(
    since: Annotated[
        str,
        typer.Option("--from", parser=instant, metavar="TIME|AGE", help="30d, 7d, or RFC 3339."),
    ],
    directory: Annotated[
        Path, typer.Option("--to-directory", "-d", metavar="DIR", help="A directory to make.")
    ],
    until: Annotated[
        str | None,
        typer.Option("--to", parser=instant, metavar="TIME|AGE", help="Up to then. [default: now]"),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Write the report of a period: report.json, report.html, and report.sig over both.

    Inventory, issuance by identity, refusals, revocations with their time to effect, policy
    changes with approvals, exceptions, and the proof that it is complete. Nothing is overwritten.

    Example: meshca audit report --from 30d -d october
    """
    asked = {"since": since, "until": until}
    note("reading the log; that takes minutes for millions of entries")
    answer = connect(config, url).post("/audit/report", asked, timeout=TIMEOUT_SECONDS)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=False)
        for name, text in sorted(answer.items()):
            with (directory / name).open("x", encoding="utf-8", newline="") as opened:
                opened.write(text)
    except OSError as error:
        raise CommandFailed(f"cannot write {directory}: {error.strerror}") from error
    note(f"written: {', '.join(str(directory / name) for name in sorted(answer))}")


def verify_report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `report` wrote.")],
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Check a report with the log's public key alone; exit 1 unless all of it holds.

    The signature, each file, both checkpoints, and that the later log begins with the earlier one.

    Example: meshca audit verify-report october --key log.pub
    """
    from meshca.errors import MeshcaError

    believed = parse_keys(key)
    if not believed:
        raise CommandFailed("name a public key of the log with --key", exit_status=2)
    try:
        answer = _verified(directory, believed)
    except OSError as error:
        raise CommandFailed(f"cannot read {error.filename}: {error.strerror}") from error
    except (MeshcaError, ValueError, KeyError, TypeError) as error:
        raise CommandFailed(f"{directory} proves nothing: {error}") from error
    emit(output, answer, lambda: _print_verified(answer))


def _verified(directory: Path, believed: "list[VerifierKey]") -> dict[str, Any]:
    from orjson import loads

    from audit.report_note import NAME, check_part, named_parts

    origin, times, parts = named_parts(_read(directory / NAME), believed)
    files = {name: _read(directory / name) for name in parts}
    for name, expected in parts.items():
        check_part(name, files[name], expected)
    report = loads(files["report.json"])
    proof = report["completeness"]
    before = _opened(proof["checkpoint_before"], believed, origin)
    after = _opened(proof["checkpoint_after"], believed, origin)
    return {
        "log": origin,
        "times": times,
        "files": sorted(parts),
        "entries": proof["entries"],
        "gaps": proof["gaps"],
        "size_before": None if before is None else before.size,
        "size_after": None if after is None else after.size,
        "grown_only": _grown_only(before, after, proof["consistency"]),
    }


def _opened(text: str | None, believed: "list[VerifierKey]", origin: str) -> "Checkpoint | None":
    from audit.checkpoint import open_checkpoint

    return None if text is None else open_checkpoint(text, believed, origin=origin)[0]


def _grown_only(
    before: "Checkpoint | None", after: "Checkpoint | None", proof: list[str] | None
) -> bool:
    """Return whether the later log is proven to begin with the earlier one; raises if it is not."""
    from audit.merkle import verify_consistency
    from meshca.errors import EvidenceBroken

    if before is None or after is None:
        return False
    nodes = [b64decode(node, validate=True) for node in proof or []]
    if not verify_consistency(before.size, after.size, before.root, after.root, nodes):
        raise EvidenceBroken(before.size, "the later log does not begin with the earlier one")
    return True


def _read(path: Path) -> bytes:
    with path.open("rb") as opened:
        data = opened.read(MAXIMUM_BYTES + 1)
    if len(data) > MAXIMUM_BYTES:
        raise ValueError(f"{path.name} is longer than {MAXIMUM_BYTES} bytes")
    return data


def _print_verified(answer: dict[str, Any]) -> None:
    grown = "nothing before the period was changed since its first checkpoint"
    print_fields(
        [
            ("log", answer["log"]),
            ("period", answer["times"]),
            ("files as signed", ", ".join(answer["files"])),
            ("entries", answer["entries"]),
            ("gaps", answer["gaps"]),
            ("checkpoints", f"{answer['size_before']} to {answer['size_after']}"),
            ("proven", grown if answer["grown_only"] else "files and signatures only"),
        ]
    )
