"""`meshca authz replay` and `suggest`: policy held against the decisions that were recorded."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    instant,
)
from meshca.cli.output import emit, note, print_table, safe

TIMEOUT_SECONDS: Final = 600.0
_TITLES: Final = (
    ("newly_denied", "would newly be denied"),
    ("newly_allowed", "would newly be allowed"),
    ("unknown", "unknown, records do not say enough"),
)
SinceOption = Annotated[
    str,
    typer.Option(parser=instant, metavar="TIME", help="How long ago (7d), or since when."),
]
NamespaceOption = Annotated[
    str | None, typer.Option(metavar="NS", help="Only destinations in this namespace.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca authz`."""
    app.command()(replay)
    app.command()(suggest)


def replay(
    drafts: Annotated[
        list[Path], typer.Argument(metavar="DRAFT...", help="YAML files, directories, or -.")
    ],
    since: SinceOption = "7d",
    namespace: NamespaceOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Decide what was recorded again, as if DRAFT... were the applied set.

    Prints what would newly be denied or allowed, with counts, and what records do not say enough
    about: they keep no headers, tokens or addresses. Nothing is changed.

    Example: meshca authz replay --since 7d draft.yaml
    """
    from meshca.cli.policy_files import expand, join, place

    text, starts = join(expand(drafts))
    answer = connect(config, url).post(
        "/authz/replay",
        {"documents": text, "since": since, "namespace": namespace},
        explain=lambda problem: place(problem, starts),
        timeout=TIMEOUT_SECONDS,
    )
    emit(output, answer, lambda: _print_replay(answer))


def _print_replay(answer: dict[str, Any]) -> None:
    for key, title in _TITLES:
        found = answer[key]
        if not found:
            continue
        more = answer["left_off"][key]
        typer.echo(f"{title}: {len(found) + more}" + (f", {more} not shown" if more else ""))
        columns = ("count", "source", "destination", "operation", "last", "reason")
        print_table(columns, (_row(each) for each in found))
        typer.echo("")
    seen = f"{answer['distinct']} kinds of requests, {answer['requests']} in all"
    note(f"{seen}; {answer['unchanged']} kinds are decided as before")
    _note_lost(answer)


def _row(each: dict[str, Any]) -> tuple[object, ...]:
    labels = ",".join(f"{key}={value}" for key, value in each["labels"].items())
    http = f" {each['method']} {each['path']}" if each["protocol"] == "http" else ""
    return (
        each["count"],
        each["source"] or "(no identity)",
        f"{each['namespace']} {labels}",
        f"{each['protocol']} {each['port']}{http}",
        each["last"],
        each["reason"],
    )


def _note_lost(answer: dict[str, Any]) -> None:
    for reason, count in answer["lost"].items():
        note(f"warning: {count} decisions of that time were not kept: {safe(reason)}")


def suggest(
    since: SinceOption = "7d",
    namespace: NamespaceOption = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write one file a policy; none is overwritten."),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Write least-privilege policies from what was recorded as allowed, to review.

    One policy for each destination workload. Each is decided against the records again; what it
    does not allow of what was, and what it allows beyond, is said above it. Nothing is applied.

    Example: meshca authz suggest --since 7d --namespace shop --output-dir suggested
    """
    answer = connect(config, url).post(
        "/authz/suggest", {"since": since, "namespace": namespace}, timeout=TIMEOUT_SECONDS
    )
    if output_dir is not None:
        for each in answer["suggestions"]:
            _write(output_dir / f"{each['namespace']}-{each['name']}.yaml", each["document"])
    emit(output, answer, lambda: _print_suggestions(answer, written=output_dir is not None))


def _print_suggestions(answer: dict[str, Any], *, written: bool) -> None:
    if written:
        columns = ("namespace", "name", "requests", "left out", "also allows")
        print_table(columns, (_suggestion_row(each) for each in answer["suggestions"]))
    else:
        for each in answer["suggestions"]:
            typer.echo(f"---\n{each['document']}", nl=False)
    if not answer["suggestions"]:
        note("nothing was recorded as allowed in that time")
    _note_lost(answer)


def _suggestion_row(each: dict[str, Any]) -> tuple[object, ...]:
    counts = (len(each["left_out"]), len(each["also_allows"]))
    return (each["namespace"], each["name"], each["requests"], *counts)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandFailed(f"cannot write {path}: {error}") from error
