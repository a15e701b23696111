"""`meshca authz stage`, `promote`, `withdraw`: a change of policy on its way into force."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
)
from meshca.cli.output import emit, note, print_fields, print_table, safe

_SHOW: Final = "show"
_STAGES: Final = ("shadow", "canary", "enforce")
_DIFFERENCES: Final = ("change", "count", "source", "destination", "operation", "last")
_PAIRS: Final = ("source", "destination", "denials", "because")

ReasonOption = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is in the audit log.")]


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca authz`."""
    for command in (stage, promote, withdraw):
        app.command()(command)


def said(reason: str) -> str:
    """Return the reason; raises CommandFailed when it is empty."""
    if not reason.strip():
        raise CommandFailed("--reason is empty: say why, for the audit log", exit_status=2)
    return reason


def _stage_name(name: str) -> str:
    if name not in _STAGES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(_STAGES)}")
    return name


def stage(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE... | show", help="YAML, or - for stdin; or the word show."),
    ],
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; needed with FILE...")
    ] = None,
    documents: Annotated[
        bool, typer.Option("--documents", help="With show: print what is staged, as YAML.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Stage a whole new applied set, as a draft; or show what is staged and what it would change.

    A draft is nowhere in force. `meshca authz promote` takes it to shadow (decided beside what is
    in force, and counted), canary (in force in some namespaces) and enforce (the next applied
    set). Exit 1 when nothing is staged.

    Example: meshca authz stage policies.yaml --reason "CHG-7: close the old ports"
    Example: meshca authz stage show
    """
    if files == [_SHOW]:
        if reason is not None:
            raise CommandFailed("--reason is for staging, not for show", exit_status=2)
        _show(config, url, output, documents=documents)
        return
    if documents:
        raise CommandFailed("--documents is for show", exit_status=2)
    if reason is None:
        raise CommandFailed("Missing option '--reason'.", exit_status=2)
    from meshca.cli.policy_files import join, place

    text, starts = join([Path(name) for name in files])
    answer = connect(config, url).post(
        "/authz/stage",
        {"documents": text, "reason": said(reason)},
        explain=lambda problem: place(problem, starts),
    )

    def table() -> None:
        note(f"candidate {answer['number']} is a draft: nowhere in force, not on trial")
        for warning in answer["warnings"]:
            note(f"warning: {safe(warning)}")

    emit(output, answer, table)


def promote(
    reason: ReasonOption,
    namespaces: Annotated[
        str | None, typer.Option(metavar="NS,...", help="Where a canary is in force.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            parser=_stage_name,
            metavar="STAGE",
            help="shadow, canary or enforce; the next one unless said.",
        ),
    ] = None,
    rebase: Annotated[
        bool,
        typer.Option("--rebase", help="Enforce in place of a set that was applied in between."),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Take the staged change a step further: draft, shadow, canary, enforce. Each step is audited.

    A canary that denies what is allowed without it goes back to shadow by itself.

    Example: meshca authz promote --namespaces shop,web --reason "CHG-7: two teams first"
    """
    body = {
        "reason": said(reason),
        "to": to,
        "namespaces": [] if namespaces is None else [n for n in namespaces.split(",") if n],
        "rebase": rebase,
    }
    answer = connect(config, url).post("/authz/stage/promote", body)

    def table() -> None:
        candidate = answer["candidate"]
        if candidate is None:
            note(f"enforced as applied set {answer['applied_version']}")
            return
        where = f" in {', '.join(candidate['namespaces'])}" if candidate["namespaces"] else ""
        note(f"candidate {candidate['number']} is at {candidate['stage']}{where}")

    emit(output, answer, table)


def withdraw(
    reason: ReasonOption,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """End the staged change: it is nowhere in force and not on trial any more.

    Example: meshca authz withdraw --reason "CHG-7: postponed"
    """
    answer = connect(config, url).post("/authz/stage/withdraw", {"reason": said(reason)})
    emit(output, answer, lambda: note(f"candidate {answer['number']} is withdrawn"))


def _show(config: Path, url: str | None, output: Output, *, documents: bool) -> None:
    answer = connect(config, url).get("/authz/stage", documents="true" if documents else None)
    if documents and output is Output.table:
        typer.echo(answer["documents"], nl=False)
        return
    emit(output, answer, lambda: _table(answer))


def _table(answer: dict[str, Any]) -> None:
    print_fields(
        [
            ("candidate", answer["number"]),
            ("stage", answer["stage"] + (" (SUSPENDED)" if answer["suspended"] else "")),
            ("  in", ", ".join(answer["namespaces"])),
            ("  since", answer["since"]),
            ("  by", answer["by"]),
            ("  because", answer["why"]),
            ("author", answer["author"]),
            ("reason", answer["reason"]),
            ("staged at", answer["staged_at"]),
            ("based on", f"applied set {answer['based_on']}"),
            *(("DOES NOT LOAD", problem) for problem in answer["problems"]),
        ]
    )
    _print_changes(answer["changes"])
    if answer["fell_back"] is not None:
        note(f"IT FELL BACK from its canary in {', '.join(answer['fell_back']['was_in'])}:")
        _print_pairs(answer["fell_back"]["pairs"])
    if answer["canary"] is not None:
        _print_canary(answer["canary"])


def _print_changes(changes: dict[str, Any] | None) -> None:
    if changes is None:
        note("a draft is not on trial: nothing is counted; see meshca authz diff, and replay")
        return
    note(
        f"since it is on trial it would have denied {changes['newly_denied']} requests that "
        f"passed, and allowed {changes['newly_allowed']} that did not"
    )
    if changes["lost"]:
        note(f"NOT COUNTED: {changes['lost']} decisions could not be recorded")
    print_table(
        _DIFFERENCES,
        [
            (d["change"], d["count"], d["source"], d["destination"], _operation(d), d["last"])
            for d in changes["shown"]
        ],
    )
    if (more := changes["operations"] - len(changes["shown"])) > 0:
        note(f"and {more} more operations")


def _operation(difference: dict[str, Any]) -> str:
    port = f":{difference['port']}"
    if difference["protocol"] == "tcp":
        return f"TCP {port}"
    said = (difference["method"], port, difference["path"])
    return " ".join(str(part) for part in said if part)


def _print_canary(canary: dict[str, Any]) -> None:
    pairs, limit = canary["denied_pairs"], canary["falls_back_at"]
    note(
        f"the canary has denied {len(pairs)} pairs that are allowed without it, within "
        f"{canary['within']} s; at {limit} it falls back"
    )
    _print_pairs(pairs)
    if canary["blind"]:
        note(
            "BLIND: no decision of these namespaces is heard of (last: "
            f"{canary['heard_at'] or 'none'}), so that denials are not seen; do their proxies "
            "send access logs?"
        )


def _print_pairs(pairs: list[dict[str, Any]]) -> None:
    rows = [(p["source"], p["destination"], p["denials"], p["example"]) for p in pairs]
    print_table(_PAIRS, rows)
