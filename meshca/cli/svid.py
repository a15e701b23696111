"""`meshca svid`: the certificates that were issued, and issuing one for a CSR."""

from datetime import timedelta
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
    duration,
)
from meshca.cli.output import emit, note, print_fields, print_table, remaining
from meshca.cli.selectors import (
    AuthorityOption,
    ClusterOption,
    FingerprintOption,
    NamespaceOption,
    NodeOption,
    PodUidOption,
    SerialOption,
    ServiceAccountOption,
    SpiffeIdOption,
    TokenIdOption,
)

app = typer.Typer(no_args_is_help=True, help="X.509-SVIDs: list, show, issue, renew, revoke, ban.")

_COLUMNS = ("serial", "identity", "issued", "ends", "pod", "cluster", "status", "revoked")


@app.command("list")
def list_svids(
    spiffe_id: SpiffeIdOption = None,
    cluster: ClusterOption = None,
    namespace: NamespaceOption = None,
    service_account: ServiceAccountOption = None,
    pod_uid: PodUidOption = None,
    node: NodeOption = None,
    token_id: TokenIdOption = None,
    serial: SerialOption = None,
    fingerprint: FingerprintOption = None,
    authority: AuthorityOption = None,
    live: Annotated[bool, typer.Option("--live", help="Only what has not expired.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    cursor: Annotated[
        int | None, typer.Option(help="Go on there: `next` of the page before.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List issued certificates, newest first. Filters combine with "and".

    Status `intent` means: recorded, but the signature is not; treat it as a certificate.

    Example: meshca svid list --live --namespace shop
    """
    answer = connect(config, url).get(
        "/svids",
        spiffe_id=spiffe_id,
        cluster=cluster,
        namespace=namespace,
        service_account=service_account,
        pod_uid=pod_uid,
        node=node,
        token_id=token_id,
        serial=serial,
        fingerprint=fingerprint,
        authority_id=authority,
        live="true" if live else None,
        limit=limit,
        cursor=cursor,
    )

    def table() -> None:
        print_table(_COLUMNS, [_row(svid) for svid in answer["svids"]])
        if answer["next"] is not None:
            note(f"more: --cursor {answer['next']}")

    emit(output, answer, table)


def _row(svid: dict[str, Any]) -> tuple[object, ...]:
    return (
        svid["serial"],
        svid["spiffe_id"],
        svid["not_before"][:19] + "Z",
        remaining(svid["not_after"]),
        svid["pod_name"],
        svid["cluster"],
        svid["status"],
        _revoked(svid),
    )


def _revoked(svid: dict[str, Any]) -> str:
    revoked = svid["revoked"]
    return "" if revoked is None else f"{revoked['reason']} {revoked['at']}"


@app.command()
def show(
    serial: Annotated[str, typer.Argument(help="In hex, with or without colons.")],
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show one certificate: whose, on what evidence, and itself as PEM.

    Example: meshca svid show 3f:a1:... | openssl x509 -noout -text
    """
    answer = connect(config, url).get(f"/svids/{_hex(serial)}")

    def table() -> None:
        shown = {**answer, "revoked": _revoked(answer)}
        print_fields((name.replace("_", " "), v) for name, v in shown.items() if name != "pem")
        typer.echo(answer["pem"] or "", nl=False)

    emit(output, answer, table)


def _hex(serial: str) -> str:
    digits = serial.replace(":", "").lower()
    if not digits or set(digits) - set("0123456789abcdef"):
        raise CommandFailed(f"{serial!r} is not a serial in hex", exit_status=2)
    return digits


@app.command()
def issue(
    csr: Annotated[Path, typer.Option("--csr", metavar="FILE", help="The request, PEM.")],
    token_file: Annotated[
        Path, typer.Option(metavar="FILE", help="The workload's service-account token.")
    ],
    server: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The mesh listener. [default: of --config]"),
    ] = None,
    trust_bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Roots of the server's certificate, PEM."),
    ] = None,
    server_name: Annotated[
        str | None, typer.Option(help="The name in the server's certificate, if not HOST.")
    ] = None,
    lifetime: Annotated[
        timedelta | None, typer.Option(parser=duration, metavar="DURATION", help="Ask for less.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Have a certificate signed, as the workload that holds the token; print the chain as PEM.

    The leaf comes first, then the intermediates. From the request only the public key is used:
    who you are is what the token says. It speaks Istio's CreateCertificate to the mesh listener.

    Example: meshca svid issue --csr orders.csr --token-file orders.token > orders.pem
    """
    from meshca.cli import issue as door

    target = door.resolve(config, server, trust_bundle, server_name)
    chain = door.create_certificate(
        target, csr=door.read(csr), token=door.read(token_file).strip(), lifetime=lifetime
    )
    typer.echo("".join(chain), nl=False)


@app.command()
def renew(
    spiffe_id: Annotated[str, typer.Argument(help="Whose certificates.")],
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Renew every certificate that the server holds for an identity, now, and push it.

    Exit 1 when no connected proxy has that identity.
    """
    answer = connect(config, url).post("/svids/renew", {"spiffe_id": spiffe_id})
    emit(output, answer, lambda: typer.echo(f"renewing {answer['renewed']}"))
    if not answer["renewed"]:
        raise typer.Exit(1)
