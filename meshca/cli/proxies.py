"""`meshca proxies`: who is connected, and what they have."""

from collections.abc import Iterator
from typing import Annotated, Any

import typer

from meshca.cli.client import connect
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
)
from meshca.cli.output import emit, note, print_table, remaining

_COLUMNS = ("identity", "pod", "resource", "pushed", "acknowledged", "state", "proof ends")


def proxies(
    behind: Annotated[
        bool, typer.Option("--behind", help="Only proxies that lack something pushed to them.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show the connected proxies: identity, versions pushed and acknowledged, last NACK.

    A NACK means that the proxy refused what it was sent and still uses what it had; the text is
    Envoy's own. `unknown` names were asked for but are nobody's, or another workload's.

    Example: meshca proxies --behind --output json
    """
    answer = connect(config, url).get("/proxies", behind="true" if behind else None)

    def table() -> None:
        print_table(_COLUMNS, _rows(answer["proxies"]))
        note(f"{len(answer['proxies'])} proxies")

    emit(output, answer, table)


def _rows(proxies: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for proxy in proxies:
        who = (proxy["spiffe_id"], proxy["pod"])
        ends = remaining(proxy["proof_expires_at"])
        for resource in proxy["resources"]:
            versions = (resource["pushed_version"][:12], resource["acknowledged_version"][:12])
            yield (*who, resource["name"], *versions, _state(resource), ends)
        for name in proxy["unanswered"]:
            yield (*who, name, "", "", "unknown", ends)
        if not proxy["resources"] and not proxy["unanswered"]:
            yield (*who, "", "", "", "asked for nothing", ends)


def _state(resource: dict[str, Any]) -> str:
    if not resource["behind"]:
        return "current"
    return f"NACK: {resource['nack']}" if resource["nack"] else "waiting for its answer"
