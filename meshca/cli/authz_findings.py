"""`meshca authz findings`: what in the policies does nothing, cancels out, or names nobody."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, UrlOption
from meshca.cli.output import emit, note, print_table
from meshca.cli.policy_options import (
    AliasOption,
    DefaultOption,
    Options,
    PoliciesOption,
    RootNamespaceOption,
    TrustDomainOption,
)

if TYPE_CHECKING:
    from authz.policy import PolicySet


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca authz`."""
    app.command()(findings)


def findings(
    policies: PoliciesOption = None,
    identities: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --policies: one SPIFFE ID a line that exists."),
    ] = None,
    default: DefaultOption = "deny",
    root_namespace: RootNamespaceOption = "meshca",
    trust_domain: TrustDomainOption = None,
    trust_domain_alias: AliasOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Look for rules that do nothing, names that nobody has, and workloads without policy.

    The running server holds its policies against every identity that it has issued and the
    proxies connected now; with --policies only what is given is known. Exit 1 when anything is
    found.

    Example: meshca authz findings --policies policies/ --trust-domain example.org
    """
    if policies is None:
        if identities is not None:
            raise CommandFailed("--identities needs --policies", exit_status=2)
        answer = connect(config, url).get("/authz/findings")
    else:
        from meshca.cli import authz_check

        aliases = tuple(trust_domain_alias or ())
        options = Options(default, root_namespace, trust_domain, aliases)
        loaded = authz_check.load_directory(policies, options)
        answer = _offline(loaded, None if identities is None else _read(identities))
    emit(output, answer, lambda: _print(answer))
    if answer["findings"]:
        raise typer.Exit(1)


def _offline(policies: "PolicySet", identities: frozenset[str] | None) -> dict[str, Any]:
    from authz.analysis.lint import Known, find
    from meshca.clock import SystemClock

    found = find(policies, Known(identities), now=SystemClock().now().timestamp())
    return {
        "version": policies.version,
        "identities": len(identities or ()),
        "workloads": 0,
        "findings": [finding.as_json() for finding in found],
    }


def _print(answer: dict[str, Any]) -> None:
    if answer["findings"]:
        columns = ("kind", "policy", "rule", "finding", "where")
        print_table(columns, (_row(each) for each in answer["findings"]))
    note(f"{len(answer['findings'])} findings")


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    where = "" if each["source"] is None else f"{each['source']}:{each['line'] or ''}"
    return each["kind"], each["policy"], each["rule"], each["message"], where


def _read(path: Path) -> frozenset[str]:
    from meshca.spiffe_id import SpiffeId

    try:
        lines = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read {path}: {error}") from error
    for line in lines:
        try:
            SpiffeId.parse(line)
        except ValueError as error:
            raise CommandFailed(f"{path}: {line!r}: {error}") from error
    return frozenset(lines)
