"""`meshca envoy bootstrap`: an Envoy bootstrap, ready to run."""

from pathlib import Path
from typing import Annotated

import typer

from meshca.cli.failure import CommandFailed
from meshca.cli.output import note

app = typer.Typer(no_args_is_help=True, help="Configuration for Envoy.")


@app.callback()
def _group() -> None:
    """Keep `bootstrap` a subcommand although it is the only one."""


@app.command()
def bootstrap(
    server: Annotated[str, typer.Option(metavar="HOST:PORT", help="meshca's mesh listener.")],
    token_file: Annotated[
        Path, typer.Option(metavar="FILE", help="The workload's token; Envoy re-reads it.")
    ],
    trust_bundle: Annotated[
        Path, typer.Option(metavar="FILE", help="The roots of the server's certificate, PEM.")
    ],
    trust_domain: Annotated[
        str | None, typer.Option(metavar="TD", help="[default: as the trust bundle says]")
    ] = None,
    server_name: Annotated[
        str | None, typer.Option(help="The name in the server's certificate, if not HOST.")
    ] = None,
    inbound: Annotated[
        str | None,
        typer.Option(metavar="[ADDRESS:]PORT", help="Take mutual TLS here, in front of --app."),
    ] = None,
    app_: Annotated[
        str | None, typer.Option("--app", metavar="HOST:PORT", help="The application, plain HTTP.")
    ] = None,
    inbound_tcp: Annotated[
        list[str] | None,
        typer.Option(metavar="PORT=HOST:PORT", help="The same for plain TCP; may be repeated."),
    ] = None,
    outbound: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PORT=HOST:PORT=SPIFFE_ID",
            help="From 127.0.0.1:PORT call HOST:PORT over mutual TLS, and only SPIFFE_ID there; "
            "may be repeated.",
        ),
    ] = None,
    federate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TD", help="Let callers of this other trust domain in, too; may be repeated."
        ),
    ] = None,
    admin: Annotated[
        str | None, typer.Option(metavar="PORT", help="Envoy's own admin page, on 127.0.0.1.")
    ] = None,
    connection_lifetime: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Connections live no longer, which bounds what a revocation cannot cut. "
            "[default: 10m]",
        ),
    ] = None,
    validator: Annotated[
        str | None,
        typer.Option(
            metavar="default|spiffe",
            help="Which of Envoy's validators to use. [default: spiffe once we federate]",
        ),
    ] = None,
    permissive: Annotated[
        bool,
        typer.Option(
            "--permissive",
            help="Take plaintext, too, on inbound ports that PeerAuthentication makes PERMISSIVE.",
        ),
    ] = False,
    trusted_hops: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How many proxies before the caller are believed about the remote address "
            "(X-Forwarded-For). [default: 0]",
        ),
    ] = None,
    decision_log: Annotated[
        bool,
        typer.Option(
            "--decision-log/--no-decision-log", help="Tell meshca of each request that comes in."
        ),
    ] = True,
    node_id: Annotated[str | None, typer.Option(help="How Envoy calls itself.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A label of the workload; may be repeated."),
    ] = None,
    write: Annotated[
        Path, typer.Option("--write", "-w", metavar="FILE", help="Where to write it.")
    ] = Path("envoy.json"),
    read_from: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where Envoy will find the files, if not where written."),
    ] = None,
) -> None:
    """Write an Envoy bootstrap: start it with `envoy -c FILE`.

    Envoy fetches its certificate, trust bundle and authorization from meshca, with the token as
    its proof. Two small files beside FILE name the token and the trust bundle: Envoy re-reads
    both when they are replaced. Replace a token with `mv`, never in place.

    Example: meshca envoy bootstrap --server meshca.meshca.svc:8443 --token-file token
    --trust-bundle root.pem --inbound 9001 --app 127.0.0.1:8000
    --outbound 9002=payments:9001=spiffe://example.org/ns/shop/sa/payments
    """
    from meshca.cli.issue import read
    from sds.bootstrap import get_trust_domain, render_files
    from sds.bootstrap_options import BootstrapOptions, parse_options

    if trust_domain is None:
        try:
            trust_domain = get_trust_domain(read(trust_bundle))
        except ValueError as error:
            raise CommandFailed(f"{trust_bundle}: {error}", hint="give --trust-domain") from error
    options = BootstrapOptions(
        server=server,
        token_file=token_file,
        trust_bundle=trust_bundle,
        trust_domain=trust_domain,
        output=write,
        read_from=read_from,
        server_name=server_name,
        inbound=inbound,
        app=app_,
        inbound_tcp=inbound_tcp or [],
        outbound=outbound or [],
        federate=federate or [],
        admin=admin,
        connection_lifetime=connection_lifetime,
        validator=validator,
        permissive=permissive,
        trusted_hops=trusted_hops,
        decision_log=decision_log,
        node_id=node_id,
        labels=label or [],
    )
    files = render_files(parse_options(options, directory=Path.cwd()))
    for name, text in files.items():
        _write(write.parent / name, text)
    note(f"start it with: envoy -c {write}")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error.strerror}") from error
    typer.echo(path)
