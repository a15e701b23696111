"""`meshca authz`: policies in force, new ones, and what they decide."""

import typer

app = typer.Typer(no_args_is_help=True, help="Authorization policy: who may call whom.")
