"""`meshca serve`: run the service."""

import typer

from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, load_settings


def serve(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the service until Ctrl-C or SIGTERM, which drain it first.

    It says `ready` on standard error once it can sign. If it does not start, the message names
    the key or the address; `meshca config check` reports all problems of the configuration.

    Example: meshca serve --config d/meshca.yaml
    """
    settings = load_settings(config)
    from meshca import service

    raise typer.Exit(service.run(settings))
