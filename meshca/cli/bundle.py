"""`meshca bundle show`: the trust bundle."""

from enum import StrEnum
from typing import Annotated

import typer

from meshca.cli.client import connect
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, UrlOption

app = typer.Typer(no_args_is_help=True, help="The roots that speak for the trust domain.")


class Format(StrEnum):
    """How a bundle is written."""

    pem = "pem"
    spiffe = "spiffe"


@app.callback()
def _group() -> None:
    """Keep `show` a subcommand although it is the only one."""


@app.command()
def show(
    format: Annotated[  # noqa: A002  # the option's name
        Format, typer.Option("--format", help="pem, or spiffe: the JWKS of the SPIFFE standard.")
    ] = Format.pem,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Print the trust bundle, as PEM or as SPIFFE's JSON.

    Example: meshca bundle show > trust-bundle.pem
    """
    typer.echo(connect(config, url).text("/bundle", format=format.value).rstrip("\n"))
