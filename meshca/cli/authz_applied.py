"""`meshca authz get`, `apply`, `delete`, `history`, `rollback`: the applied set, its versions."""

from pathlib import Path
from typing import Annotated, Any

import typer

from meshca.cli.client import Explain, connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
)
from meshca.cli.output import emit, note, print_fields, print_table, safe
from meshca.cli.overlay import overlay_fields

ReasonOption = Annotated[str, typer.Option(help="Why; it goes into the audit log.")]
ExpectOption = Annotated[
    int | None,
    typer.Option(
        "--expect-version",
        metavar="N",
        help="Refuse if the applied set is not version N: somebody has changed it meanwhile.",
    ),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check it and show what would change; change nothing.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("get")(get)
    app.command("apply")(apply_)
    app.command("delete")(delete)
    app.command("history")(history)
    app.command("rollback")(rollback)


def get(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
    documents: Annotated[
        bool, typer.Option("--documents", help="Print the applied set's YAML, to edit it.")
    ] = False,
    version: Annotated[
        int | None, typer.Option(metavar="N", help="Show applied set N as it was, not what is.")
    ] = None,
) -> None:
    """Show the policies in force, where they come from, and what does not load.

    To change the applied set: meshca authz get --documents > p.yaml, edit it, and
    meshca authz apply -f p.yaml --reason "..."
    """
    client = connect(config, url)
    if version is not None:
        _show_version(client.get(f"/policies/applied/{version}"), output, documents)
        return
    answer = client.get("/policies")
    if documents:
        typer.echo((answer["applied"] or {}).get("documents", ""), nl=False)
        return
    emit(output, answer, lambda: _print_policies(answer))


def _show_version(applied: dict[str, Any], output: Output, documents: bool) -> None:
    if documents:
        typer.echo(applied["documents"], nl=False)
        return

    def table() -> None:
        print_fields((key, applied[key]) for key in ("version", "time", "author", "reason"))
        typer.echo(applied["documents"], nl=False)

    emit(output, applied, table)


def _print_policies(answer: dict[str, Any]) -> None:
    applied = answer["applied"] or {"version": "", "author": "", "reason": ""}
    print_fields(
        [
            ("in force", answer["version"]),
            ("default", answer["default"]),
            ("applied set", applied["version"]),
            ("  by", applied["author"]),
            ("  because", applied["reason"]),
            *overlay_fields(answer["overlay"]),
        ]
    )
    columns = ("namespace", "name", "action", "stage", "selector", "rules", "source")
    print_table(columns, (_policy_row(policy) for policy in answer["policies"]))
    for kind in ("peer_authentications", "request_authentications"):
        for each in answer[kind]:
            place = f"{each['source']}:{each['line']}"
            typer.echo(f"{kind}: {safe(each['namespace'])}/{safe(each['name'])}  {safe(place)}")
    for warning in answer["warnings"]:
        note(f"warning: {safe(warning)}")
    for source in answer["sources"]:
        since = f" since {source['stale_since']}" if source["stale_since"] else ""
        for problem in source["problems"]:
            note(f"source {safe(source['name'])} is not current{since}: {safe(problem)}")
    for problem in answer["problems"]:
        note(f"not in force, does not load: {safe(problem)}")


def _policy_row(policy: dict[str, Any]) -> tuple[object, ...]:
    selector = ",".join(f"{key}={value}" for key, value in policy["selector"].items()) or "(all)"
    return (
        *(policy["namespace"], policy["name"], policy["action"], policy["stage"]),
        *(selector, policy["rules"], f"{policy['source']}:{policy['line']}"),
    )


def apply_(
    reason: ReasonOption,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE...", help="YAML, - for stdin, or a DIR.")
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", "-f", metavar="FILE", help="The same; may be repeated."),
    ] = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="It may hold no policy: everything applied goes away.")
    ] = False,
    dry_run: DryRunOption = False,
    expect_version: ExpectOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Replace the applied set by the policies in FILE..., all of them or none.

    Policies of other sources stay as they are. A set with any mistake is refused whole, with file,
    line and field of each, and what was in force stays. Proxies have it at once.

    Example: meshca authz apply -f policies.yaml --reason "INC-12: let frontend read payments"
    """
    from meshca.cli.policy_files import expand, join, place

    given = [*(files or []), *(file or [])]
    if not given and not empty:
        raise CommandFailed("give the files: meshca authz apply -f FILE", exit_status=2)
    text, starts = join(expand(given))
    body = {"documents": text, "empty": empty}
    change = _Change("/policies", reason, dry_run, expect_version)
    change.make(config, url, output, body, lambda problem: place(problem, starts))


def delete(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NS/NAME...", help="Or KIND/NS/NAME, where two kinds share a name."),
    ],
    reason: ReasonOption,
    dry_run: DryRunOption = False,
    expect_version: ExpectOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Take single policies out of the applied set, as a new version of it.

    Example: meshca authz delete shop/orders-readers --reason "INC-12: not needed any more"
    """
    change = _Change("/policies/delete", reason, dry_run, expect_version)
    change.make(config, url, output, {"names": names})


def history(
    limit: Annotated[int, typer.Option(help="How many versions, the newest first.")] = 100,
    before: Annotated[
        int | None, typer.Option(metavar="N", help="Versions older than N only.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List the versions of the applied set, with who applied each and why."""
    answer = connect(config, url).get("/policies/applied", limit=limit, before=before)

    def table() -> None:
        columns = ("version", "time", "author", "reason", "characters")
        print_table(columns, ([v[c] for c in columns] for v in answer["versions"]))
        if answer["next"] is not None:
            note(f"older ones: --before {answer['next']}")

    emit(output, answer, table)


def rollback(
    version: Annotated[int, typer.Argument(help="The version whose documents are applied again.")],
    reason: ReasonOption,
    dry_run: DryRunOption = False,
    expect_version: ExpectOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Apply the documents of an earlier version again, as a new version.

    Example: meshca authz rollback 12 --reason "INC-12: 13 denied the frontend"
    """
    change = _Change("/policies/rollback", reason, dry_run, expect_version)
    change.make(config, url, output, {"version": version})


class _Change:
    """One change of the applied set."""

    def __init__(self, path: str, reason: str, dry_run: bool, expect_version: int | None) -> None:
        if not reason.strip():
            raise CommandFailed("--reason is empty: say why, for the audit log", exit_status=2)
        self.path = path
        self.body = {"reason": reason, "dry_run": dry_run, "expect_version": expect_version}

    def make(
        self,
        config: Path,
        url: str | None,
        output: Output,
        body: dict[str, Any],
        explain: Explain = lambda problem: problem,
    ) -> None:
        """Ask the server for it, and print what has changed."""
        answer = connect(config, url).post(self.path, {**self.body, **body}, explain=explain)
        emit(output, answer, lambda: _print_change(answer))


def _print_change(answer: dict[str, Any]) -> None:
    if answer["recorded"]:
        typer.echo(f"applied as set {answer['applied_version']}; in force: {answer['version']}")
    else:
        typer.echo("nothing was changed; this would be:")
    for what in ("added", "removed", "changed"):
        for name in answer[what]:
            typer.echo(f"  {what} {safe(name)}")
    if not answer["recorded"]:
        for line in answer["diff"].splitlines():
            typer.echo(safe(line))
    for warning in answer["warnings"]:
        note(f"warning: {safe(warning)}")
