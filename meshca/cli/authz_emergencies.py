"""`meshca authz approve`, `approvals`, `bypass`: what two persons open in an emergency."""

from datetime import timedelta
from typing import Annotated, Any, Final

import typer

from meshca.cli.authz_staging import ReasonOption, said
from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    duration,
)
from meshca.cli.output import emit, note, print_table, remaining

_BYPASSES: Final = ("bypass", "of", "state", "ends", "by", "approved by", "why")
_APPROVALS: Final = ("policy", "in force", "ends", "approved by", "needed", "why")


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca authz`."""
    for command in (approve, approvals, bypass):
        app.command()(command)


def approve(
    name: Annotated[str, typer.Argument(metavar="NS/NAME | BYPASS", help="What to approve.")],
    reason: ReasonOption,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Approve of a break-glass policy, as it is now, or of a bypass that somebody has requested.

    Whoever wrote or requested it cannot. A policy of a directory or a cluster takes two persons.

    Example: meshca authz approve shop/oncall-reads-orders --reason "INC-7: I have looked at it"
    Example: meshca authz approve bypass-1f0c5b7a --reason "INC-7: yes"
    """
    what = "policy" if "/" in name else "bypass"
    body = {what: name, "reason": said(reason)}
    answer = connect(config, url).post("/authz/approvals", body)

    def table() -> None:
        if answer["bypass"] is not None:
            _print_bypasses([answer["bypass"]])
            return
        _print_approvals([answer["policy"]])
        if not answer["policy"]["holds"]:
            note("another person has to approve of it, too")

    emit(output, answer, table)


def approvals(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List the break-glass policies that were approved and are not over.

    Example: meshca authz approvals
    """
    answer = connect(config, url).get("/authz/approvals")
    emit(output, answer, lambda: _print_approvals(answer["approvals"]))


def bypass(
    destination: Annotated[
        str | None,
        typer.Argument(metavar="NS[/WORKLOAD]", help="Who is called; WORKLOAD becomes label app."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label of who is called; may be repeated."),
    ] = None,
    lifetime: Annotated[
        timedelta | None,
        typer.Option("--for", parser=duration, metavar="DURATION", help="At most 4h."),
    ] = None,
    end: Annotated[
        str | None, typer.Option(metavar="BYPASS", help="End this one before its time.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; it is in the audit log.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="List those that have ended, too.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Request that everybody may call a destination for a while; end that, or list what there is.

    A bypass is inert until another person approves of it within 15 minutes; its time runs from
    there. Whoever is revoked stays refused. Without a destination and --end: the list.

    Example: meshca authz bypass shop/orders --for 30m --reason "INC-7: nobody can order"
    """
    client = connect(config, url)
    if destination is None and end is None:
        if label or lifetime or reason:
            raise CommandFailed("name a destination: NS or NS/WORKLOAD", exit_status=2)
        answer = client.get("/authz/bypasses", all="true" if all_ else None)
        emit(output, answer, lambda: _print_bypasses(answer["bypasses"]))
        return
    if reason is None:
        raise CommandFailed("Missing option '--reason'.", exit_status=2)
    if destination is None:
        answer = client.post(f"/authz/bypasses/{_named(end)}/end", {"reason": said(reason)})
        emit(output, answer, lambda: note(f"{answer['bypass']} is ended"))
        return
    if end is not None or lifetime is None:
        raise CommandFailed("a bypass needs --for, and is not ended by --end", exit_status=2)
    body = {**_destination(destination, label or []), "seconds": int(lifetime.total_seconds())}
    answer = client.post("/authz/bypasses", {**body, "reason": said(reason)})

    def table() -> None:
        _print_bypasses([answer])
        note(
            "not in force yet; another person has 15 minutes for: meshca authz approve "
            f'{answer["bypass"]} --reason "..."'
        )

    emit(output, answer, table)


def _destination(text: str, labels: list[str]) -> dict[str, Any]:
    namespace, slash, workload = text.partition("/")
    selected: dict[str, str] = {"app": workload} if slash else {}
    for label in labels:
        name, equals, value = label.partition("=")
        if not equals or not name:
            raise CommandFailed(f"--label {label!r} is not KEY=VALUE", exit_status=2)
        selected[name] = value
    return {"namespace": namespace, "labels": selected}


def _named(name: str | None) -> str:
    if name is None or not name.replace("-", "").isalnum():
        raise CommandFailed(f"{name!r} is not a bypass as listed", exit_status=2)
    return name


def _print_bypasses(bypasses: list[dict[str, Any]]) -> None:
    rows = []
    for b in bypasses:
        labels = ",".join(f"{key}={value}" for key, value in b["labels"].items())
        approved = (b["approved"] or {"actor": ""})["actor"]
        where = f"{b['namespace']}/{labels or '(all)'}"
        ends = remaining(b["expires"]) if b["state"] == "in_force" else (b["ended_at"] or "")
        row = (b["bypass"], where, b["state"], ends, b["requested_by"], approved, b["reason"])
        rows.append(row)
    print_table(_BYPASSES, rows)


def _print_approvals(approved: list[dict[str, Any]]) -> None:
    rows = [
        (
            a["policy"],
            "yes" if a["holds"] else "no",
            remaining(a["expires"]),
            ", ".join(approver["actor"] for approver in a["approved_by"]),
            a["needed"],
            a["why"],
        )
        for a in approved
    ]
    print_table(_APPROVALS, rows)
