"""`meshca audit prove-growth` and `verify-growth`: the log of now begins with that of before."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, UrlOption
from meshca.cli.output import emit, note
from meshca.cli.verifier_keys import KeyOption, parse_keys

if TYPE_CHECKING:
    from audit.checkpoint import Checkpoint


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca audit`."""
    app.command("prove-growth")(prove_growth)
    app.command("verify-growth")(verify_growth)


def prove_growth(
    old: Annotated[
        str, typer.Argument(metavar="SIZE|FILE", help="A size, or a checkpoint kept from before.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Print the proof that the log of SIZE entries begins the one that was signed last.

    Its form is that of a request to a witness (C2SP tlog-witness): the old size, the consistency
    proof, and the newest checkpoint.

    Example: meshca audit prove-growth kept.checkpoint > growth
    """
    from base64 import b64encode

    size = old if old.isdecimal() else str(_checkpoint(Path(old)).size)
    answer = connect(config, url).get("/audit/proof/consistency", old=size)
    if answer["checkpoint"] is None:
        raise CommandFailed("no checkpoint of that size is kept any more; ask again")
    hashes = "".join(f"{b64encode(bytes.fromhex(h)).decode()}\n" for h in answer["proof"])
    typer.echo(f"old {answer['old']}\n{hashes}\n{answer['checkpoint']}", nl=False)


def verify_growth(
    file: Annotated[Path, typer.Argument(help="What `prove-growth` printed.")],
    old: Annotated[
        Path, typer.Option("--old", metavar="FILE", help="The checkpoint that you have kept.")
    ],
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Check, without any server, that nothing before a kept checkpoint was changed; exit 1 if not.

    Example: meshca audit verify-growth growth --old kept.checkpoint --key log.pub
    """
    from audit.checkpoint import open_checkpoint
    from audit.merkle import verify_consistency
    from audit.witness.request import MAXIMUM_REQUEST_BYTES, read_request
    from meshca.errors import MeshcaError

    believed = parse_keys(key)
    if not believed:
        raise CommandFailed("name a public key of the log with --key", exit_status=2)
    try:
        grown = read_request(_read(file, MAXIMUM_REQUEST_BYTES + 1))
        new, _ = open_checkpoint(str(grown.note), believed)
        before, _ = open_checkpoint(_read(old, MAXIMUM_REQUEST_BYTES), believed, origin=new.origin)
    except MeshcaError as error:
        raise CommandFailed(f"{file} proves nothing: {error}") from error
    if grown.old != before.size or not verify_consistency(
        before.size, new.size, before.root, new.root, grown.proof
    ):
        raise CommandFailed(f"{file} does not prove that {old} is where this log began")
    answer = {"origin": new.origin, "old": before.size, "new": new.size, "root": new.root.hex()}
    emit(output, answer, lambda: _print(answer))


def _print(answer: dict[str, Any]) -> None:
    typer.echo(
        f"the {answer['new']} entries of {answer['origin']} begin with the {answer['old']} that "
        "you know: none of those was changed, moved or removed"
    )
    note("keep the checkpoint at the end of the file: it is what to ask from next time")


def _checkpoint(path: Path) -> "Checkpoint":
    from audit.checkpoint import parse_checkpoint
    from audit.note import NoteRefused, parse_note

    try:
        return parse_checkpoint(parse_note(_read(path, 64 * 1024)).text)
    except NoteRefused as error:
        raise CommandFailed(f"{path} is no checkpoint: {error}", exit_status=2) from error


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as opened:
            return opened.read(limit)
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}", exit_status=2) from error
