"""`meshca audit retention`, `hold`, `holds`, `release`: what is kept, and for how long."""

from typing import Annotated, Any, Final

import typer

from meshca.cli.authz_staging import ReasonOption, said
from meshca.cli.client import VERIFY_TIMEOUT_SECONDS, connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    instant,
)
from meshca.cli.output import emit, note, print_table

_RULES: Final = ("kind", "kept", "due now", "held", "certificate lives")
_HOLDS: Final = ("hold", "state", "of", "by", "at", "reference", "why")


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca audit`."""
    for command in (retention, hold, holds, release):
        app.command()(command)


def retention(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show how long each kind is kept, and what would be redacted now; nothing is changed.

    What is due goes by itself, within the hour, by `audit.retention` of the configuration. Held is
    what a legal hold keeps; an issuance is kept until its certificate has expired.
    """
    answer = connect(config, url).get("/audit/retention", timeout=VERIFY_TIMEOUT_SECONDS)

    def table() -> None:
        counts = (answer["due"], answer["held"], answer["live"])
        rows = [
            (kind, kept, *(count.get(kind, "") for count in counts))
            for kind, kept in answer["rules"].items()
        ]
        print_table(_RULES, rows)

    emit(output, answer, table)


def hold(
    reason: ReasonOption,
    everything: Annotated[
        bool, typer.Option("--everything", help="Keep the whole log, and no condition.")
    ] = False,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND", help="Of this kind; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(parser=instant, metavar="TIME|AGE", help="From then on.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(parser=instant, metavar="TIME|AGE", help="Before then.")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(metavar="SPIFFE_ID", help="That name this identity.")
    ] = None,
    namespace: Annotated[str | None, typer.Option(help="Of this namespace.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Of this cluster.")] = None,
    serial: Annotated[str | None, typer.Option(help="That name this certificate.")] = None,
    reference: Annotated[str, typer.Option(help="What the case is called elsewhere.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Keep entries from being redacted, whatever the rules say. Conditions combine with "and".

    Example: meshca audit hold --namespace shop --since 2160h --reason "case 7" --reference 2026-7
    """
    given = {
        "since": since,
        "until": until,
        "spiffe_id": identity,
        "namespace": namespace,
        "cluster": cluster,
        "serial": serial,
    }
    body: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    body |= {"everything": everything, "kinds": kind or [], "reference": reference}
    answer = connect(config, url).post("/audit/holds", {**body, "reason": said(reason)})
    emit(output, answer, lambda: _print([answer]))


def holds(
    all_: Annotated[bool, typer.Option("--all", help="Those that were released, too.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List the legal holds.

    Example: meshca audit holds
    """
    answer = connect(config, url).get("/audit/holds", all="true" if all_ else None)
    emit(output, answer, lambda: _print(answer["holds"]))


def release(
    name: Annotated[str, typer.Argument(metavar="HOLD", help="A hold as listed.")],
    reason: ReasonOption,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Ask for the release of a hold or, if somebody else has asked within a day, release it.

    Two persons release a hold, and both are on record.

    Example: meshca audit release hold-1f0c5b7a --reason "case 7 is settled"
    """
    if not name.replace("-", "").isalnum():
        raise CommandFailed(f"{name!r} is not a hold as listed", exit_status=2)
    answer = connect(config, url).post(f"/audit/holds/{name}/release", {"reason": said(reason)})

    def table() -> None:
        _print([answer])
        if answer["released"] is None:
            note(f"still in force; another person has a day for: meshca audit release {name}")

    emit(output, answer, table)


def _print(found: list[dict[str, Any]]) -> None:
    rows = []
    for one in found:
        of = " ".join(f"{name}={_text(value)}" for name, value in one["scope"].items())
        placed = one["placed"]
        row = (one["hold"], one["state"], of, placed["actor"], placed["at"][:19] + "Z")
        rows.append((*row, one["reference"], placed["reason"]))
    print_table(_HOLDS, rows)


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
