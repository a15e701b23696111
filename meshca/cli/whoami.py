"""`meshca whoami`: who the server takes you for, how that was proven, and what you may do."""

from meshca.cli.client import connect
from meshca.cli.options import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, UrlOption
from meshca.cli.output import emit, print_fields


def whoami(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show who the server takes you for, and what you may do."""
    answer = connect(config, url).get("/whoami")

    def table() -> None:
        print_fields(
            (name, ", ".join(value) if isinstance(value, list) else value)
            for name, value in answer.items()
        )

    emit(output, answer, table)
