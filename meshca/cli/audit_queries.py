"""`meshca audit query`, `show`: what happened, found by anything that is recorded of it."""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final

import typer

from meshca.cli.client import AdminClient, connect
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    instant,
)
from meshca.cli.output import emit, note, print_fields, print_table, safe

_COLUMNS: Final = ("index", "time", "kind", "outcome", "who", "serial", "why")


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca audit`."""
    app.command()(query)
    app.command()(show)


_Text = str | None
_Number = int | None


def _option(*names: str, says: str, metavar: str = "TEXT") -> Any:
    return typer.Option(*names, metavar=metavar, help=says)


def query(
    since: Annotated[
        _Text,
        typer.Option(parser=instant, metavar="TIME|AGE", help="From then on: 15m, 2h, RFC 3339."),
    ] = None,
    until: Annotated[
        _Text, typer.Option(parser=instant, metavar="TIME|AGE", help="Before then.")
    ] = None,
    kind: Annotated[_Text, _option(says="issuance, refusal, policy_change, decision, ...")] = None,
    outcome: Annotated[_Text, _option(says="done, refused or failed.")] = None,
    actor: Annotated[_Text, _option(says="Done by: uid:0, a SPIFFE ID, ...")] = None,
    identity: Annotated[
        _Text, _option("--identity", says="About this identity.", metavar="SPIFFE_ID")
    ] = None,
    serial: Annotated[_Text, _option(says="About this certificate, however it is written.")] = None,
    fingerprint: Annotated[_Text, _option(says="About it, by the SHA-256 of its DER.")] = None,
    cluster: Annotated[_Text, _option(says="From this cluster.")] = None,
    namespace: Annotated[_Text, _option(says="From this namespace.")] = None,
    service_account: Annotated[_Text, _option(says="From this service account.")] = None,
    pod: Annotated[_Text, _option(says="From the pod of this name.")] = None,
    node: Annotated[_Text, _option(says="From this node.")] = None,
    destination: Annotated[_Text, _option(says="Decided about requests to it.")] = None,
    policy: Annotated[_Text, _option(says="By or about this policy: namespace/name.")] = None,
    request_id: Annotated[_Text, _option(says="Of this request.")] = None,
    reason: Annotated[_Text, _option(says="With exactly this reason.")] = None,
    text: Annotated[_Text, _option(says="With this text anywhere, in any case: slow.")] = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="In log order.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    cursor: Annotated[
        _Number, typer.Option(min=0, help="Go on behind this entry: `next` of the page before.")
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="How many there are.")] = False,
    group_by: Annotated[_Text, _option(says="How many have each value.", metavar="FIELD")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with those that come, until Ctrl-C.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show audit entries, newest first. Filters combine with "and".

    Why was a workload refused in the last quarter of an hour?

      meshca audit query --outcome refused --since 15m --namespace shop

    For which reasons, how often?  meshca audit query --kind refusal --group-by reason
    """
    filters: dict[str, Any] = {
        "since": since,
        "kind": kind,
        "outcome": outcome,
        "actor": actor,
        "spiffe_id": identity,
        "serial": serial,
        "fingerprint": fingerprint,
        "cluster": cluster,
        "namespace": namespace,
        "service_account": service_account,
        "pod": pod,
        "node": node,
        "destination": destination,
        "policy": policy,
        "request_id": request_id,
        "reason": reason,
        "text": text,
    }
    _check(follow=follow, counts=count or group_by is not None, until=until, cursor=cursor)
    client = connect(config, url)
    if follow:
        _follow(client, {**filters, "cursor": cursor}, output)
    elif count or group_by is not None:
        _count(client, {**filters, "until": until, "group_by": group_by, "limit": limit}, output)
    else:
        order = "oldest" if oldest_first else "newest"
        page = {"until": until, "order": order, "limit": limit, "cursor": cursor}
        _entries(client, {**filters, **page}, limit, output)


def _check(*, follow: bool, counts: bool, until: _Text, cursor: _Number) -> None:
    if follow and (counts or until is not None):
        raise typer.BadParameter("--follow goes without --count, --group-by and --until")
    if counts and cursor is not None:
        raise typer.BadParameter("--count and --group-by count everything: leave --cursor out")


def _entries(client: AdminClient, filters: dict[str, Any], limit: int, output: Output) -> None:
    answer = client.get("/audit/entries", **filters)

    def table() -> None:
        print_table(_COLUMNS, [_row(entry) for entry in answer["entries"]])
        if answer["next"] is not None:
            stopped = len(answer["entries"]) < limit
            note(f"{'searched so far; ' * stopped}more: --cursor {answer['next']}")

    emit(output, answer, table)


def _count(client: AdminClient, filters: dict[str, Any], output: Output) -> None:
    answer = client.get("/audit/count", **filters)

    def table() -> None:
        if answer["group_by"] is None:
            typer.echo(answer["count"])
        else:
            groups = [(group["value"], group["count"]) for group in answer["groups"]]
            print_table((answer["group_by"], "entries"), groups)
            if len(groups) < answer["values"]:
                note(f"the first {len(groups)} of {answer['values']} values: see --limit")
        if not answer["exact"]:
            note(f"not exact: entries before {answer['reached']} were not looked at")

    emit(output, answer, table)


def _follow(client: AdminClient, filters: dict[str, Any], output: Output) -> None:
    for told in _lines(client.chunks("/audit/follow", **filters)):
        if "index" in told:
            _SHOWN[output](told)
        elif "end" in told:
            note(f"ended: {told['end']}; go on with --cursor {told['next']}")


def _lines(chunks: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the JSON of each line."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from map(json.loads, lines)


def _as_line(entry: dict[str, Any]) -> None:
    typer.echo("  ".join(safe(cell) or "-" for cell in _row(entry)))


def _as_json(entry: dict[str, Any]) -> None:
    typer.echo(json.dumps(entry, ensure_ascii=False))


def _as_yaml(entry: dict[str, Any]) -> None:
    typer.echo("---")
    emit(Output.yaml, entry, lambda: None)


_SHOWN: Final[dict[Output, Callable[[dict[str, Any]], None]]] = {
    Output.table: _as_line,
    Output.json: _as_json,
    Output.yaml: _as_yaml,
}


def show(
    index: Annotated[int, typer.Argument(min=0, help="Where the entry is in the log.")],
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show one audit entry with everything that is recorded.

    That it is in the log is proven by `meshca audit prove`.
    """
    entry = connect(config, url).get(f"/audit/entries/{index}")

    def table() -> None:
        details = entry.get("details") or {}
        print_fields(
            [
                *((name, value) for name, value in entry.items() if name != "details"),
                *((f"details.{name}", _shown(value)) for name, value in details.items()),
            ]
        )

    emit(output, entry, table)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _row(entry: dict[str, Any]) -> tuple[object, ...]:
    time = entry["time"][:19] + "Z"
    if entry.get("redacted"):
        return entry["index"], time, entry["kind"], "", "", "", "redacted"
    message = entry["details"].get("message")
    return (
        entry["index"],
        time,
        entry["kind"],
        entry["outcome"],
        _who(entry),
        entry["serial"],
        ": ".join(text for text in (entry["reason"], message) if isinstance(text, str) and text),
    )


def _who(entry: dict[str, Any]) -> str:
    about, actor = entry["spiffe_id"], entry["actor"]
    return f"{about} by {actor}" if about and actor not in ("", about) else about or actor
