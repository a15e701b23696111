"""Options of the commands that can do without a server: policies in files, and how to load them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

PoliciesOption = Annotated[
    Path | None,
    typer.Option("--policies", metavar="DIR", help="Use these files; needs no server."),
]
DefaultOption = Annotated[str, typer.Option("--default", help="allow or deny; with --policies.")]
RootNamespaceOption = Annotated[str, typer.Option("--root-namespace", help="With --policies.")]
TrustDomainOption = Annotated[
    str | None, typer.Option("--trust-domain", metavar="TD", help="With --policies.")
]
TrustDomainOrSourcesOption = Annotated[
    str | None,
    typer.Option(
        "--trust-domain", metavar="TD", help="With --policies. [default: that of the source]"
    ),
]
AliasOption = Annotated[
    list[str] | None,
    typer.Option("--trust-domain-alias", metavar="TD", help="With --policies; may be repeated."),
]


@dataclass(frozen=True, slots=True)
class Options:
    """What files are loaded with, as typed; who loads checks it before reading any file."""

    default: str
    root_namespace: str
    trust_domain: str | None
    aliases: tuple[str, ...] = ()

    def or_trust_domain_of(self, source: str | None) -> "Options":
        """Return the options with the trust domain of `source`, if none was given."""
        if self.trust_domain is not None or source is None:
            return self
        return replace(self, trust_domain=source.removeprefix("spiffe://").partition("/")[0])
