"""`python -m benchmarks [NAME...]`: measure, and print one table; see docs/benchmarks.md."""

import importlib
import sys
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from benchmarks import machine, report
from benchmarks.figure import Context, Figure, Row
from meshca import logs

NAMES = (
    *("yardsticks", "tokens", "issuance", "served", "streams", "rotation"),
    *("roots", "taint", "takeover", "revocation", "crl", "ocsp"),
    *("policy_engine", "policy_batch", "policy_diff", "policy_push", "ext_authz"),
    *("policy_envoy", "audit_log", "audit_overhead"),
    *("audit_query", "audit_retention"),
)


def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help=f"Of: {', '.join(NAMES)}.")
    ] = None,
    *,
    quick: Annotated[bool, typer.Option(help="A tenth of the work: to see that it runs.")] = False,
    markdown: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Put the tables, as Markdown, between the marks in FILE; the others stay.",
        ),
    ] = None,
) -> None:
    """Measure the figures NAME..., or all of them, and print them in one table.

    Exit 0 whatever the numbers are: what falls short of its target is marked.
    """
    chosen = names or list(NAMES)
    if unknown := set(chosen) - set(NAMES):
        raise typer.BadParameter(f"no figure {', '.join(sorted(unknown))}")
    logs.configure(level="ERROR")
    context = Context(is_quick=quick)
    on_what = machine.describe()
    measured = [_measure(name, context) for name in chosen]
    report.show(Console(width=None if sys.stdout.isatty() else 150), on_what, measured)
    if markdown is not None:
        put = report.merge_into if names else report.put_into
        markdown.write_text(put(markdown.read_text(), on_what, measured))
    else:
        context.console.print("To keep them: python -m benchmarks --markdown docs/benchmarks.md")


def _measure(name: str, context: Context) -> tuple[str, list[Row]]:
    # A module satisfies the protocol when it has a TITLE and a run.
    figure = cast("Figure", importlib.import_module(f"benchmarks.{name}"))
    context.console.print(f"[bold]{figure.TITLE}")
    rows = []
    for row in figure.run(context):
        context.console.print(f"  {row.what}: {report.value(row)}  {row.ratio}  {row.note}")
        rows.append(row)
    return figure.TITLE, rows


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
