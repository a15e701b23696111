"""`meshca federation`: the trust domains whose workloads ours may talk to."""

from pathlib import Path
from typing import Annotated, Any

import typer

from meshca.cli.client import AdminClient, connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
)
from meshca.cli.output import emit, note, print_fields, print_table, remaining, safe

app = typer.Typer(no_args_is_help=True, help="Other trust domains: their bundles, never merged.")

_COLUMNS = ("trust domain", "profile", "sequence", "roots", "fetched", "next", "state")
TrustDomain = Annotated[str, typer.Argument(metavar="TRUST_DOMAIN")]
ReasonOption = Annotated[str, typer.Option(help="Why; it goes into the audit log.")]


@app.command("list")
def list_(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show the federated trust domains and how fetching their bundles stands.

    `stale`: three refreshes were missed; the last good bundle is in force. See docs/bundles.md.
    """
    answer = connect(config, url).get("/federation")

    def table() -> None:
        print_table(_COLUMNS, [_row(domain) for domain in answer["trust_domains"]])
        note(f"{len(answer['trust_domains'])} trust domains")

    emit(output, answer, table)


@app.command()
def add(
    trust_domain: TrustDomain,
    endpoint: Annotated[str, typer.Option(metavar="https://...", help="Its bundle endpoint.")],
    reason: ReasonOption,
    profile: Annotated[
        str,
        typer.Option(help="https_web (certificate of the web) or https_spiffe (an X509-SVID)."),
    ] = "https_web",
    endpoint_id: Annotated[
        str, typer.Option(metavar="SPIFFE_ID", help="With https_spiffe: who must answer there.")
    ] = "",
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its bundle now, SPIFFE JSON or PEM."),
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With https_web: PEM roots instead of the system's."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Change a domain that is federated already.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Trust another trust domain's roots for that trust domain's identities, and for no others.

    Its bundle is fetched now and from then on. `https_spiffe` needs --bundle, had over a way that
    you trust, since the endpoint is verified by the bundle itself. Federation runs one way: they
    must add us, too. Policy still decides who may call whom.

    Example: meshca federation add partner.test --endpoint https://mesh.partner.test/bundle.json
    --reason "CHG-7: orders calls their payments"
    """
    body = {
        "trust_domain": trust_domain,
        "url": endpoint,
        "profile": profile,
        "endpoint_id": endpoint_id,
        "bundle": _text(bundle),
        "web_roots": _text(ca_file),
        "replace": replace,
        "reason": _given(reason),
    }
    answer = connect(config, url).post("/federation", body)
    emit(output, answer, lambda: _print_domain(answer))


@app.command()
def refresh(
    trust_domain: TrustDomain,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Fetch a federated bundle now; exit 1 when that fails, and the last good one stays."""
    answer = _post(connect(config, url), trust_domain, "refresh", {})
    emit(output, answer, lambda: _print_domain(answer))
    if answer["failures"]:
        raise typer.Exit(1)


@app.command()
def remove(
    trust_domain: TrustDomain,
    reason: ReasonOption,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Trust a federated trust domain no longer: proxies refuse its identities at once.

    Connections that are open stay open for at most ten minutes.

    Example: meshca federation remove partner.test --reason "CHG-9: the contract ended"
    """
    answer = _post(connect(config, url), trust_domain, "remove", {"reason": _given(reason)})
    emit(output, answer, lambda: typer.echo(f"{safe(trust_domain)} is trusted no longer"))


def _post(client: AdminClient, trust_domain: str, what: str, body: dict[str, object]) -> Any:
    from urllib.parse import quote

    return client.post(f"/federation/{quote(trust_domain, safe='')}/{what}", body)


def _given(reason: str) -> str:
    if not reason.strip():
        raise CommandFailed("--reason is empty: say why, for the audit log", exit_status=2)
    return reason


def _text(path: Path | None) -> str:
    from meshca.cli.issue import read

    if path is None:
        return ""
    try:
        return read(path).decode()
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{path} is not text: PEM or JSON is wanted") from error


def _state(domain: dict[str, Any]) -> str:
    if domain["last_error"]:
        return f"{'stale' if domain['stale'] else 'failing'}: {domain['last_error']}"
    if domain["stale"]:
        return "stale"
    return "current" if domain["fetched_at"] else "not fetched yet"


def _row(domain: dict[str, Any]) -> tuple[object, ...]:
    return (
        domain["trust_domain"],
        domain["profile"],
        domain["sequence"],
        len(domain["roots"]),
        remaining(domain["fetched_at"]),
        remaining(domain["next_fetch_at"]),
        _state(domain),
    )


def _print_domain(domain: dict[str, Any]) -> None:
    names = ("trust_domain", "url", "profile", "endpoint_id", "sequence", "fetched_at")
    fields = [(name.replace("_", " "), domain[name]) for name in names]
    print_fields([*fields, ("roots", len(domain["roots"])), ("state", _state(domain))])
    if domain["last_error"]:
        note("warning: its bundle could not be fetched; this is tried again by itself")
