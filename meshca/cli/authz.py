"""`meshca authz`: policies in force, new ones, and what they decide."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from meshca.cli import (
    authz_analysis,
    authz_applied,
    authz_decisions,
    authz_explain,
    authz_findings,
    authz_replay,
    authz_unit_tests,
)
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
)
from meshca.cli.output import emit, print_fields, safe
from meshca.cli.policy_options import (
    AliasOption,
    DefaultOption,
    Options,
    PoliciesOption,
    RootNamespaceOption,
    TrustDomainOrSourcesOption,
)

app = typer.Typer(no_args_is_help=True, help="Authorization policy: who may call whom.")
authz_analysis.register(app)
authz_applied.register(app)
authz_decisions.register(app)
authz_explain.register(app)
authz_findings.register(app)
authz_replay.register(app)
authz_unit_tests.register(app)


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
    policies: PoliciesOption = None,
    default: DefaultOption = "deny",
    root_namespace: RootNamespaceOption = "meshca",
    trust_domain: TrustDomainOrSourcesOption = None,
    trust_domain_alias: AliasOption = None,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="In JSON, too: near misses, and what would have allowed it"),
    ] = False,
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
    aliases = tuple(trust_domain_alias or ())
    options = Options(default, root_namespace, trust_domain, aliases)
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
    explained = explain or output is Output.table
    answer = checked.explained(request) if explained else checked.one(request)
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
    for trial in answer["shadow"]:
        changes = "unlike now" if trial["verdict"] != answer["verdict"] else "as now"
        words = f"with what is on trial in force: {trial['verdict']}, {changes}; {trial['reason']}"
        typer.echo(safe(words))
    for miss in answer["near_misses"]:
        typer.echo(safe(f"near miss: {miss['policy']} rule {miss['rule']}: {miss['failed'][0]}"))
    for change in answer["would_allow"]:
        typer.echo(safe(f"would be allowed {change['text']}"))
        for line in (change["document"] or "").splitlines():
            typer.echo(f"    {safe(line)}")
