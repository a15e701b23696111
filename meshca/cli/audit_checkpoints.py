"""`meshca audit checkpoint`, `prove`, `verify-proof`, `keys`, `rotate-key`: what was signed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, UrlOption
from meshca.cli.output import emit, note, print_fields, print_table
from meshca.cli.verifier_keys import KeyOption, parse_keys

if TYPE_CHECKING:
    from audit.proof_file import EntryProof, Proven


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca audit`."""
    app.command()(checkpoint)
    app.command()(prove)
    app.command("verify-proof")(verify_proof)
    app.command()(keys)
    app.command("rotate-key")(rotate_key)


def checkpoint(
    everything: Annotated[
        bool, typer.Option("--all", help="Every checkpoint that is kept, the oldest first.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Print what the log commits to: a signed note that anybody can hold it to later.

    Keep it where whoever can change the database cannot:
    meshca audit checkpoint > /elsewhere/checkpoint; then meshca audit verify --anchor FILE.
    """
    client = connect(config, url)
    answer = {"checkpoints": _all(client)} if everything else client.get("/audit/checkpoint")
    notes = [each["checkpoint"] for each in answer.get("checkpoints", [answer])]
    emit(output, answer, lambda: typer.echo("\n".join(notes), nl=False))


def _all(client: Any) -> list[Any]:
    found: list[Any] = []
    page: dict[str, Any] = {"next": None}
    while True:
        page = client.get("/audit/checkpoints", limit=1000, cursor=page["next"])
        found += page["checkpoints"]
        if page["next"] is None:
            return found[::-1]


def prove(
    index: Annotated[int | None, typer.Argument(min=0, help="Where the entry is.")] = None,
    serial: Annotated[
        str | None, typer.Option(help="The certificate whose issuance is to be proven.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Print a file that proves an entry: its body, its place in the log, and a signed checkpoint.

    Whoever has it and a public key of the log needs nothing else:

      meshca audit prove 4711 > 4711.tlog-proof

      meshca audit verify-proof 4711.tlog-proof --key PUB
    """
    if (index is None) == (serial is None):
        raise CommandFailed("name one entry: INDEX, or --serial", exit_status=2)
    named = {"index": str(index)} if index is not None else {"serial": str(serial)}
    typer.echo(connect(config, url).text("/audit/proof/entry", **named), nl=False)


def verify_proof(
    file: Annotated[Path, typer.Argument(help="What `meshca audit prove` printed.")],
    key: KeyOption = None,
    origin: Annotated[str, typer.Option(help="The log that it must be of.")] = "",
    output: OutputOption = Output.table,
) -> None:
    """Check a proof, without any server, and print the entry; exit 1 unless it holds.

    Give the newest key: whoever found one that was retired can make a log of their own.

    Example: meshca audit verify-proof 4711.tlog-proof --key log.pub
    """
    from audit.proof_file import MAXIMUM_BYTES, parse_proof
    from audit.proof_file import verify_proof as check
    from meshca.errors import MeshcaError

    believed = parse_keys(key)
    if not believed:
        raise CommandFailed("name a public key of the log with --key", exit_status=2)
    try:
        with file.open("rb") as opened:
            proof = parse_proof(opened.read(MAXIMUM_BYTES + 1))
        proven = check(proof, believed, origin=origin)
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror}") from error
    except MeshcaError as error:
        raise CommandFailed(f"{file} proves nothing: {error}") from error
    answer = _proven(proof, proven)
    emit(output, answer, lambda: _print_proven(answer))


def _proven(proof: "EntryProof", proven: "Proven") -> dict[str, Any]:
    from orjson import JSONDecodeError, loads

    try:
        entry = None if proof.body is None else loads(proof.body)
    except JSONDecodeError as error:
        raise CommandFailed(f"entry {proof.index} is in the log and is no JSON") from error
    under = proven.checkpoint
    return {
        "index": proof.index,
        "origin": under.origin,
        "size": under.size,
        "root": under.root.hex(),
        "keys": [str(key) for key in proven.by],
        "leaf_hash": proof.leaf.hex(),
        "redacted": proof.body is None,
        "entry": entry,
    }


def _print_proven(answer: dict[str, Any]) -> None:
    note(f"entry {answer['index']} is among the first {answer['size']} of {answer['origin']}")
    for key in answer["keys"]:
        note(f"by the word of the key {key}; a proof does not say whether that was retired since")
    if answer["entry"] is None:
        note(f"its body was redacted; its leaf hash is {answer['leaf_hash']}")
        return
    print_fields((name, value or "") for name, value in sorted(answer["entry"].items()))


def keys(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List the log's own keys: who verifies needs one of them, from a source of their own.

    Example: meshca audit keys -o json
    """
    answer = connect(config, url).get("/audit/keys")

    def table() -> None:
        columns = ("stage", "replica", "since", "until", "key")
        print_table(columns, [_row(each) for each in answer["keys"]])

    emit(output, answer, table)


def _row(key: dict[str, Any]) -> tuple[object, ...]:
    return (
        key["stage"],
        key["replica"],
        key["introduced_at"][:19] + "Z",
        "" if key["retires_at"] is None else key["retires_at"][:19] + "Z",
        key["key"],
    )


def rotate_key(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Let a new key of the log follow this replica's; both sign for `audit.key_overlap`.

    The entry that introduces it is covered by checkpoints of the old key, so who trusts that one
    comes to trust the new one. Example: meshca audit rotate-key
    """
    answer = connect(config, url).post("/audit/keys/rotate", {})
    emit(output, answer, lambda: typer.echo(answer["key"]["key"]))
