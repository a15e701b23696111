"""`meshca authz`: policies in force, new ones, and what they decide."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

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

app = typer.Typer(no_args_is_help=True, help="Authorization policy: who may call whom.")


@app.command()
def get(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
    documents: Annotated[
        bool, typer.Option("--documents", help="Print the applied set's YAML, to edit it.")
    ] = False,
) -> None:
    """Show the policies in force: of the directories and of the set applied last.

    To change the applied set: meshca authz get --documents > p.yaml, edit it, and
    meshca authz apply p.yaml --reason "..."
    """
    answer = connect(config, url).get("/policies")
    if documents:
        typer.echo((answer["applied"] or {}).get("documents", ""), nl=False)
        return

    def table() -> None:
        applied = answer["applied"] or {"version": "", "author": "", "reason": ""}
        print_fields(
            [
                ("in force", answer["version"]),
                ("default", answer["default"]),
                ("applied set", applied["version"]),
                ("  by", applied["author"]),
                ("  because", applied["reason"]),
            ]
        )
        columns = ("namespace", "name", "action", "selector", "rules", "source")
        print_table(columns, (_policy_row(policy) for policy in answer["policies"]))
        for warning in answer["warnings"]:
            note(f"warning: {safe(warning)}")

    emit(output, answer, table)


def _policy_row(policy: dict[str, Any]) -> tuple[object, ...]:
    selector = ",".join(f"{key}={value}" for key, value in policy["selector"].items()) or "(all)"
    where = f"{policy['source']}:{policy['line']}"
    return (
        policy["namespace"],
        policy["name"],
        policy["action"],
        selector,
        policy["rules"],
        where,
    )


@app.command("apply")
def apply_(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="YAML, or - for stdin.")],
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit log.")],
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Replace the applied set by the policies in FILE..., all of them or none.

    Policies of directories stay as they are. A set with any mistake is refused whole, with file,
    line and field of each, and what was in force stays. Proxies have it within a second.

    Example: meshca authz apply policies.yaml --reason "INC-12: let frontend read payments"
    """
    from meshca.cli.policy_files import join, place

    if not reason.strip():
        raise CommandFailed("--reason is empty: say why, for the audit log", exit_status=2)
    text, starts = join(files)
    client = connect(config, url)
    answer = client.post(
        "/policies", {"documents": text, "reason": reason}, explain=lambda p: place(p, starts)
    )

    def table() -> None:
        typer.echo(f"applied as set {answer['applied_version']}; in force: {answer['version']}")
        for what in ("added", "removed", "changed"):
            for name in answer[what]:
                typer.echo(f"  {what} {safe(name)}")
        for warning in answer["warnings"]:
            note(f"warning: {safe(warning)}")

    emit(output, answer, table)


@app.command()
def check(
    source: Annotated[
        str | None, typer.Option(metavar="SPIFFE_ID", help="Who calls; leave out for plaintext.")
    ] = None,
    destination: Annotated[
        str | None,
        typer.Option(metavar="NS/WORKLOAD", help="Who is called; WORKLOAD becomes label app."),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label of who is called; may be repeated."),
    ] = None,
    port: Annotated[int | None, typer.Option(help="The port called.")] = None,
    method: Annotated[str | None, typer.Option(help="HTTP method; none at all: TCP.")] = None,
    path: Annotated[str | None, typer.Option(help="HTTP path.")] = None,
    host: Annotated[str | None, typer.Option(help="HTTP host.")] = None,
    batch: Annotated[
        Path | None,
        typer.Option(metavar="FILE.jsonl", help="One request a line, - for stdin; see docs/cli.md"),
    ] = None,
    policies: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Check these files; needs no server.")
    ] = None,
    default: Annotated[str, typer.Option(help="allow or deny; with --policies.")] = "deny",
    root_namespace: Annotated[str, typer.Option(help="With --policies.")] = "meshca",
    trust_domain: Annotated[
        str | None, typer.Option(help="With --policies. [default: that of --source]")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Say whether a request is allowed, by which policy and rule, and why.

    Exit 0 when allowed, 1 when denied or when the policies do not load. With --batch: one line of
    JSON for each line read, as it is read, and exit 0 whatever the verdicts.

    Example: meshca authz check --source spiffe://example.org/ns/shop/sa/frontend
    --destination shop/orders --method GET --path /items
    """
    from meshca.cli import authz_check as engine

    if (batch is None) == (destination is None):
        raise CommandFailed("give either --destination or --batch", exit_status=2)
    options = engine.Options(default, root_namespace, trust_domain)
    if batch is not None:
        checked = engine.offline(policies, options) if policies else engine.online(config, url)
        _print_lines(checked.lines(engine.read_lines(batch)))
        return
    assert destination is not None  # noqa: S101  # checked above
    request = engine.request(
        source=source, destination=destination, labels=label or [], port=port,
        http={"method": method, "path": path, "host": host},
    )  # fmt: skip
    options = options.or_trust_domain_of(source)
    checked = engine.offline(policies, options) if policies else engine.online(config, url)
    answer = checked.one(request)
    emit(output, answer, lambda: _print_answer(answer))
    if answer["verdict"] != "allow":
        raise typer.Exit(1)


def _print_lines(lines: Iterator[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _print_answer(answer: dict[str, Any]) -> None:
    rule = "" if answer["rule"] is None else f"rule {answer['rule']}"
    fields = [("verdict", answer["verdict"]), ("policy", answer["policy"]), ("rule", rule)]
    print_fields([*fields, ("reason", answer["reason"])])
