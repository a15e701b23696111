"""`meshca audit identity|certificate|at`: the questions that auditors come with."""

from pathlib import Path
from typing import Annotated, Any

import typer

from meshca.cli.authz_analysis import TIMEOUT_SECONDS, print_access
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
from meshca.cli.output import emit, note, print_fields, print_table, safe

MAXIMUM_PEM_BYTES = 64 * 1024
_EVENTS = ("index", "time", "kind", "outcome", "actor", "reason")


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca audit`."""
    app.command()(identity)
    app.command()(certificate)
    app.command()(at)


def identity(
    spiffe_id: Annotated[str, typer.Argument(metavar="SPIFFE_ID", help="Whose life.")],
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many events.")] = 50,
    cursor: Annotated[
        int | None, typer.Option(help="Go on there: `next` of the page before.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show the whole life of an identity: certificates, refusals, revocations, bans.

    Exit 1 if nothing was ever recorded about it.

    Example: meshca audit identity spiffe://example.org/ns/shop/sa/orders
    """
    answer = connect(config, url).get(
        "/audit/identity", spiffe_id=spiffe_id, limit=limit, cursor=cursor
    )
    emit(output, answer, lambda: _print_identity(answer))
    if not answer["known"]:
        raise typer.Exit(1)


def _print_identity(answer: dict[str, Any]) -> None:
    had, entries = answer["certificates"], answer["entries"]
    kinds = ", ".join(f"{kind} {count}" for kind, count in entries["by_kind"].items())
    print_fields(
        [
            ("identity", answer["spiffe_id"]),
            ("recorded", f"from {answer['first_entry']} to {answer['last_entry']}"),
            ("certificates", f"{had['total']}: {had['live']} live, {had['revoked']} revoked"),
            ("entries", f"{_count(entries)}: {kinds}" if kinds else "none"),
            ("banned", "; ".join(ban["why"] for ban in answer["bans"]) or "no"),
        ]
    )
    print_events(answer)


def _count(entries: dict[str, Any]) -> str:
    return str(entries["total"]) if entries["exact"] else f"{entries['total']} or more"


def print_events(answer: dict[str, Any]) -> None:
    """Print the entries of an answer, and how to see more."""
    if answer["events"]:
        typer.echo("")
        print_table(_EVENTS, ([e.get(name, "") for name in _EVENTS] for e in answer["events"]))
    if answer["next"] is not None:
        note(f"more: --cursor {answer['next']}")


def certificate(
    certificate: Annotated[
        str, typer.Argument(metavar="FILE|SERIAL", help="A certificate in PEM, or its serial.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Say of a certificate found in the wild who got it, on what proof, and what happened since.

    Exit 1 unless it was issued here: exactly this one, if it is a file.

    Example: meshca audit certificate found.pem
    """
    path = Path(certificate)
    asked = {"certificate": _pem(path)} if path.is_file() else {"serial": certificate}
    answer = connect(config, url).post("/audit/certificate", asked)
    emit(output, answer, lambda: _print_certificate(answer))
    if answer["verdict"] != "issued":
        raise typer.Exit(1)


def _pem(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            data = opened.read(MAXIMUM_PEM_BYTES + 1)
        if len(data) > MAXIMUM_PEM_BYTES:
            raise CommandFailed(f"{path} is longer than {MAXIMUM_PEM_BYTES} bytes", exit_status=2)
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read {path}: {error}", exit_status=2) from error


def _print_certificate(answer: dict[str, Any]) -> None:
    typer.echo(safe(f"{answer['verdict']}: {answer['statement']}"))
    record, entry = answer["certificate"], answer["entry"]
    if record is None:
        return
    proof = ("method", "cluster", "namespace", "service_account", "pod_name", "node", "token_id")
    said = ", ".join(f"{name} {record[name]}" for name in proof if record[name])
    print_fields(
        [
            ("identity", record["spiffe_id"]),
            ("valid", f"from {record['not_before']} to {record['not_after']}"),
            ("on the proof of", said),
            ("authority", record["authority_id"]),
            ("in the log", _place(entry)),
            ("revoked", _revoked(answer["revocation"])),
            ("the pod's later ones", ", ".join(one["serial"] for one in answer["later"])),
        ]
    )
    print_events(answer)


def _place(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "not named in the inventory"
    words = {True: "proven by", False: "NOT what was signed in", None: "not yet in"}
    return f"entry {entry['index']}, {words[entry['proven']]} checkpoint {entry['checkpoint']}"


def _revoked(revocation: dict[str, Any] | None) -> str:
    if revocation is None:
        return "no"
    decided = revocation["decided"]
    return f"{revocation['revoked_at']} by {decided['actor']}: {decided['why']}"


def at(
    time: Annotated[
        str, typer.Argument(metavar="TIME|AGE", parser=instant, help="2h, 7d, or RFC 3339.")
    ],
    destination: Annotated[
        str | None,
        typer.Option(metavar="NS/WORKLOAD", help="Who could call it then? WORKLOAD is label app."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label of the destination; may be repeated."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Say how things stood at a time: valid certificates, policies in force, who could call whom.

    Example: meshca audit at 2h --destination shop/orders
    """
    from meshca.cli import authz_check

    asked: dict[str, Any] = {"time": time}
    if destination is not None:
        whole = authz_check.request(
            source=None, destination=destination, labels=label or [], port=None, http={}
        )["destination"]
        asked["destination"] = {key: whole[key] for key in ("namespace", "labels")}
    elif label:
        raise CommandFailed("--label is of a --destination", exit_status=2)
    answer = connect(config, url).post("/audit/at", asked, timeout=TIMEOUT_SECONDS)
    emit(output, answer, lambda: _print_at(answer))


def _print_at(answer: dict[str, Any]) -> None:
    had, policies = answer["certificates"], answer["policies"]
    set_then = "none on record"
    if policies is not None:
        files = len(policies["sources"])
        set_then = f"{policies['version']} since {policies['since']}, from {files} texts"
    print_fields(
        [
            ("time", answer["time"]),
            ("log", f"{answer['log_size']} entries"),
            ("certificates", f"{had['valid']} valid of {had['identities']} identities"),
            ("revoked", had["revoked"]),
            ("authorities", ", ".join(one["authority_id"] for one in answer["authorities"])),
            ("policies", set_then),
        ]
    )
    if had["by_identity"]:
        typer.echo("")
        columns = ("spiffe_id", "valid")
        print_table(columns, ([one[name] for name in columns] for one in had["by_identity"]))
    if answer["laid_over"]:
        typer.echo("\nlaid over the set, or asked to be, by then:")
        print_events({"events": answer["laid_over"], "next": None})
    _print_who_could(answer["who_can"])


def _print_who_could(found: dict[str, Any] | None) -> None:
    if found is None:
        return
    typer.echo("")
    if "problem" in found:
        note(f"the set of then {found['problem']}: {'; '.join(found['problems'][:3])}")
        return
    print_access(found)
