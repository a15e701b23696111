"""`meshca config check`: every problem of a configuration at once."""

import typer

from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    load_settings,
)
from meshca.cli.output import emit, print_fields, print_table

app = typer.Typer(no_args_is_help=True, help="Check the server's configuration.")


@app.callback()
def _group() -> None:
    """Keep `check` a subcommand although it is the only one."""


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.table) -> None:
    """Report every problem in the configuration, with file, line and key; start nothing.

    Also checked: that the files it names can be read, and that its policies load.
    MESHCA_<PATH> in the environment is applied, as `serve` would (MESHCA_LISTEN_MESH=...).

    Example: meshca config check --config d/meshca.yaml
    """
    from meshca.cli import config_files
    from meshca.errors import InvalidDocument

    try:
        settings = load_settings(config)
        if found := config_files.problems(settings, str(config)):
            raise InvalidDocument(found)
    except InvalidDocument as error:
        if output is Output.table:
            raise CommandFailed(f"{config} is not valid:\n{error}") from error
        problems = [
            {"file": p.file, "line": p.line, "path": p.path, "message": p.message}
            for p in error.problems
        ]
        emit(output, {"valid": False, "problems": problems}, lambda: None)
        raise typer.Exit(1) from error
    summary = {
        "valid": True,
        "problems": [],
        "trust_domain": settings.trust_domain,
        "admin_socket": str(settings.admin_socket),
        "listen": settings.listen.model_dump(),
        "clusters": [c.name for c in settings.clusters],
    }

    def table() -> None:
        print_fields([("trust domain", settings.trust_domain), ("admin", settings.admin_socket)])
        listen = settings.listen.model_dump().items()
        print_table(["door", "address"], [(door, address or "(off)") for door, address in listen])
        print_table(
            ["cluster", "issuer", "validation"],
            [(c.name, c.issuer, c.validation) for c in settings.clusters],
        )

    emit(output, summary, table)
