"""`meshca audit`: what happened, and whether the record of it is intact."""

from typing import Annotated, Any

import typer

from meshca.cli import (
    audit_anchors,
    audit_backup,
    audit_checkpoints,
    audit_export,
    audit_questions,
    audit_report,
    audit_retention,
    audit_verify,
    audit_verify_export,
)
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

app = typer.Typer(no_args_is_help=True, help="The tamper-evident record of what happened.")

audit_anchors.register(app)
audit_backup.register(app)
audit_checkpoints.register(app)
audit_questions.register(app)
audit_report.register(app)
audit_retention.register(app)
audit_export.register(app)
audit_verify.register(app)
audit_verify_export.register(app)

_COLUMNS = ("index", "time", "kind", "outcome", "who", "serial", "why")


@app.command()
def query(
    since: Annotated[
        str | None,
        typer.Option(parser=instant, metavar="TIME|AGE", help="From then on: 15m, 2h, RFC 3339."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(parser=instant, metavar="TIME|AGE", help="Before then.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--identity", metavar="SPIFFE_ID", help="About this identity.")
    ] = None,
    serial: Annotated[str | None, typer.Option(help="About this certificate.")] = None,
    kind: Annotated[
        str | None, typer.Option(help="issuance, refusal, policy_change, server_start, ...")
    ] = None,
    outcome: Annotated[str | None, typer.Option(help="done, refused or failed.")] = None,
    cluster: Annotated[str | None, typer.Option(help="From this cluster.")] = None,
    namespace: Annotated[str | None, typer.Option(help="From this namespace.")] = None,
    pod: Annotated[str | None, typer.Option(help="From the pod of this name.")] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In log order.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    cursor: Annotated[
        int | None, typer.Option(help="Go on after this index: `next` of the page before.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show audit entries, newest first. Filters combine with "and".

    Why was a workload refused in the last quarter of an hour?

      meshca audit query --outcome refused --since 15m --namespace shop

    Who changed policy?  meshca audit query --kind policy_change
    """
    answer = connect(config, url).get(
        "/audit/entries",
        since=since,
        until=until,
        spiffe_id=identity,
        serial=serial,
        kind=kind,
        outcome=outcome,
        cluster=cluster,
        namespace=namespace,
        pod=pod,
        order="oldest" if oldest_first else "newest",
        limit=limit,
        cursor=cursor,
    )

    def table() -> None:
        print_table(_COLUMNS, [_row(entry) for entry in answer["entries"]])
        if answer["next"] is not None:
            note(f"more: --cursor {answer['next']}")

    emit(output, answer, table)


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    return (
        entry["index"],
        entry["time"][:19] + "Z",
        entry["kind"],
        entry["outcome"],
        _who(entry),
        entry["serial"],
        ": ".join(text for text in (entry["reason"], entry["details"].get("message")) if text),
    )


def _who(entry: dict[str, Any]) -> str:
    about, actor = entry["spiffe_id"], entry["actor"]
    return f"{about} by {actor}" if about and actor not in ("", about) else about or actor
