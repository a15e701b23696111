"""`meshca dev`: tokens of the development cluster, and another development root."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    duration,
    load_settings,
)

if TYPE_CHECKING:
    from identity.development import UnsafeDevelopmentCluster
    from meshca.settings import Settings

app = typer.Typer(no_args_is_help=True, help="For development: stand-ins of what a cluster does.")


@app.command()
def token(
    namespace: Annotated[str, typer.Option(help="The workload's namespace.")],
    service_account: Annotated[str, typer.Option(help="The workload's service account.")],
    config: ConfigOption = DEFAULT_CONFIG,
    pod: Annotated[
        str | None, typer.Option(help="The pod's name. [default: SERVICE_ACCOUNT-0]")
    ] = None,
    node: Annotated[str, typer.Option(help="The node's name.")] = "development-node",
    audience: Annotated[
        list[str] | None,
        typer.Option(help="Whom it is for; may be repeated. [default: the cluster's first]"),
    ] = None,
    lifetime: Annotated[
        timedelta, typer.Option(parser=duration, metavar="DURATION", help="How long it is good.")
    ] = "1h",  # type: ignore[assignment]  # typer runs the parser on the default too
) -> None:
    """Print a service-account token as a Kubernetes cluster would project it into a pod.

    It is signed by the development cluster of the configuration; the server need not run.

    Example: meshca dev token --config d/meshca.yaml --namespace shop --service-account orders
    """
    from meshca.clock import SystemClock

    cluster, audiences = _development_cluster(load_settings(config))
    typer.echo(
        cluster.token(
            namespace=namespace,
            service_account=service_account,
            pod=pod or f"{service_account}-0",
            node=node,
            audiences=tuple(audience or audiences),
            lifetime=lifetime,
            now=SystemClock().now(),
        )
    )


def _development_cluster(settings: "Settings") -> "tuple[UnsafeDevelopmentCluster, list[str]]":
    from identity.development import UnsafeDevelopmentCluster

    for cluster in settings.clusters:
        if cluster.keys is None or cluster.keys.file is None:
            continue
        directory: Path = cluster.keys.file.parent
        if UnsafeDevelopmentCluster.is_in(directory):
            return UnsafeDevelopmentCluster.load(directory), cluster.audiences
    raise CommandFailed(
        "no cluster of this configuration is a development cluster",
        hint="one is made by: meshca init DIR --trust-domain TD",
    )


@app.command()
def root(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Make another development root for upstream `self_signed`, and print its SHA-256.

    The old one stays beside it, and has signed the new one. The server announces that to every
    proxy within half a minute; `meshca ca rotate-root` then moves the mesh to it.

    Example: meshca dev root --config d/meshca.yaml
    """
    from cryptography.hazmat.primitives import hashes

    from ca.upstream import self_signed
    from meshca.clock import SystemClock
    from meshca.settings import SelfSigned

    settings = load_settings(config)
    if not isinstance(settings.upstream, SelfSigned):
        raise CommandFailed(
            f"upstream.kind is {settings.upstream.kind}: its roots are made elsewhere"
        )
    try:
        made = self_signed.add_root(
            settings.data_dir, trust_domain=settings.trust_domain, now=SystemClock().now()
        )
    except OSError as error:
        raise CommandFailed(
            f"no development root in {settings.data_dir}: {error.strerror}",
            hint="meshca init makes one",
        ) from error
    typer.echo(made.fingerprint(hashes.SHA256()).hex())
