"""Options that say which certificates or which callers; all that are given must agree."""

from typing import Annotated

import typer

SpiffeIdOption = Annotated[
    str | None,
    typer.Option("--spiffe-id", "--identity", metavar="SPIFFE_ID", help="Of this identity."),
]
ClusterOption = Annotated[str | None, typer.Option(help="Of this cluster.")]
NamespaceOption = Annotated[str | None, typer.Option(help="Of this namespace.")]
ServiceAccountOption = Annotated[str | None, typer.Option(help="Of this service account.")]
PodUidOption = Annotated[str | None, typer.Option(help="Of the pod with this UID.")]
NodeOption = Annotated[str | None, typer.Option(help="Of workloads on this node.")]
TokenIdOption = Annotated[
    str | None, typer.Option(help="Had with this token: `token_id` of the certificate.")
]
SerialOption = Annotated[str | None, typer.Option(metavar="HEX", help="With this serial.")]
FingerprintOption = Annotated[
    str | None, typer.Option(metavar="SHA256", help="Whose DER has this SHA-256.")
]
AuthorityOption = Annotated[
    str | None, typer.Option(metavar="ID", help="Signed by the authority with this id.")
]


def given(**said: str | None) -> dict[str, str]:
    """Return what was said; an option that is left out selects everything."""
    return {name: value for name, value in said.items() if value is not None}
