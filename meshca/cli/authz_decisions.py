"""`meshca authz decisions`: what proxies decided, and why."""

from typing import Annotated, Any

import typer

from meshca.cli.client import connect
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    instant,
)
from meshca.cli.output import emit, note, print_table

_COLUMNS = ("time", "verdict", "source", "destination", "operation", "why")
_SUMMARY_COLUMNS = ("count", "verdict", "source", "destination", "operation", "policy", "last")


def register(app: typer.Typer) -> None:
    """Add the command to those of `meshca authz`."""
    app.command()(decisions)


def decisions(
    since: Annotated[
        str | None,
        typer.Option(parser=instant, metavar="TIME|AGE", help="From then on: 15m, 2h, RFC 3339."),
    ] = None,
    verdict: Annotated[str | None, typer.Option(help="allow or deny.")] = None,
    source: Annotated[
        str | None, typer.Option(metavar="SPIFFE_ID", help="Requests of this peer.")
    ] = None,
    destination: Annotated[
        str | None, typer.Option(metavar="SPIFFE_ID|NS", help="Requests to it, or to a namespace.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(metavar="NS/NAME", help="Decided by this policy.")
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Count equal ones, of everything, allowed too.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    cursor: Annotated[
        int | None, typer.Option(help="Go on after this number: `next` of the page before.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show recorded decisions, newest first: denials, AUDIT matches, what is on trial would change.

    With --summary: every decision since then (a day, unless said), counted by source, destination
    and operation. Filters combine with "and". What could not be recorded is said.

    Why is orders refused?  meshca authz decisions --verdict deny --destination shop --since 15m
    """
    filters: dict[str, Any] = {
        "since": since,
        "verdict": verdict,
        "source": source,
        "destination": destination,
        "policy": policy,
    }
    client = connect(config, url)
    if summary:
        answer = client.get("/decisions/summary", limit=limit, **filters)
    else:
        answer = client.get("/decisions", limit=limit, cursor=cursor, **filters)

    def table() -> None:
        row = _counted if summary else _recorded
        columns = _SUMMARY_COLUMNS if summary else _COLUMNS
        print_table(columns, [row(each) for each in answer["decisions"]])
        if answer.get("next") is not None:
            note(f"more: --cursor {answer['next']}")
        for reason, count in answer["unrecorded"].items():
            note(f"not recorded: {count} decisions ({reason})")

    emit(output, answer, table)


def _recorded(each: dict[str, Any]) -> tuple[object, ...]:
    verdict = each["verdict"]
    if each["shadow"] is not None:
        verdict = f"{verdict} (on trial: {each['shadow']})"
    return (
        each["time"][:19] + "Z",
        verdict,
        each["source"] or "(nobody)",
        each["destination"],
        _operation(each),
        each["reason"],
    )


def _counted(each: dict[str, Any]) -> tuple[object, ...]:
    return (
        each["count"],
        each["verdict"],
        each["source"] or "(nobody)",
        each["destination"],
        _operation(each),
        each["policy"] or "",
        each["last"][:19] + "Z",
    )


def _operation(each: dict[str, Any]) -> str:
    port = "" if each["port"] is None else f":{each['port']}"
    if each["protocol"] == "tcp":
        return f"tcp{port}"
    return f"{each['method'] or '(other)'} {each['path'] or '(unknown)'} {port}".rstrip()
