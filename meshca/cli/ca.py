"""`meshca ca`: the authorities above the certificates: look, step by hand, replace a root."""

import time
from typing import Annotated, Any

import typer

from meshca.cli.client import AdminClient, connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
)
from meshca.cli.output import emit, note, print_table, remaining

app = typer.Typer(
    no_args_is_help=True,
    help="Authorities and roots: show, prepare, activate, taint, revoke, replace a root.",
)

Why = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Why; it is in the audit log for good.")
]
Authority = Annotated[str, typer.Argument(metavar="ID", help="As `meshca ca show` gives it.")]

_AUTHORITIES = ("authority", "replica", "stage", "since", "ends", "last leaf ends", "waits for")
_ROOTS = ("root", "stage", "since", "ends", "subject")
_REPLICAS = ("replica", "host", "since", "signs with", "credentials")
_MISSING = ("identity", "pod", "connected", "why", "certificate ends")
_POLL_SECONDS = 1.0


@app.command()
def show(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show authorities and roots that have not ended: their stages, and what each waits for.

    An announced root waits for every workload to have it; those who lack it are listed.

    Example: meshca ca show --output json
    """
    client = connect(config, url)
    authorities, roots = client.get("/authorities"), client.get("/roots")

    def table() -> None:
        alive = [a for a in authorities["authorities"] if a["stage"] not in ("retired", "revoked")]
        print_table(_AUTHORITIES, [_authority_row(a, authorities["signing"]) for a in alive])
        if len(authorities["replicas"]) > 1:
            typer.echo()
            print_table(_REPLICAS, [_replica_row(r) for r in authorities["replicas"]])
        if authorities["problem"]:
            note(f"the last look failed, and is repeated: {authorities['problem']}")
        typer.echo()
        in_bundle = [r for r in roots["roots"] if r["stage"] != "removed"]
        print_table(_ROOTS, [_root_row(root) for root in in_bundle])
        if roots["missing"]:
            typer.echo()
            _print_missing(roots)

    emit(output, {**authorities, **roots}, table)


@app.command()
def history(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show every authority there ever was, with its last step and why it was taken.

    Each single step, with who asked for it: meshca audit query --kind authority_change
    """
    answer = connect(config, url).get("/authorities")
    columns = ("authority", "replica", "stage", "since", "prepared", "ends", "reason", "at issuer")

    def table() -> None:
        first = ("authority_id", "replica", "stage", "since", "prepared_at")
        names = (*first, "not_after", "reason", "at_issuer")
        print_table(columns, [[a[name] for name in names] for a in answer["authorities"]])

    emit(output, answer, table)


@app.command()
def prepare(
    reason: Why,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Ask the upstream for a successor of the active authority now; print its id.

    One that waits already is not asked for again. It takes over by itself when its time comes.
    """
    answer = connect(config, url).post("/authorities/prepare", {"reason": reason})
    typer.echo(answer["authority_id"])


@app.command()
def activate(
    authority: Authority,
    reason: Why,
    anyway: Annotated[
        bool,
        typer.Option("--anyway", help="Even though not every workload has its root: they break."),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Let a published authority sign now, and the active one retire."""
    body = {"reason": reason, "anyway": anyway}
    connect(config, url).post(f"/authorities/{_id(authority)}/activate", body)
    note(f"authority {authority} signs now")


@app.command()
def taint(
    authority: Authority,
    reason: Why,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Say that an authority's key is believed stolen: it signs no more, its leaves are replaced.

    A successor takes over at once. Certificates under the tainted authority stay valid for whoever
    holds them until they expire; `meshca svid list --live --authority ID` shows what is left.
    """
    connect(config, url).post(f"/authorities/{_id(authority)}/taint", {"reason": reason})
    note(f"authority {authority} is tainted: watch what is left of it in `meshca ca show`")


@app.command()
def revoke(
    authority: Authority,
    reason: Why,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """End a tainted authority under which nothing is alive; it also happens by itself."""
    connect(config, url).post(f"/authorities/{_id(authority)}/revoke", {"reason": reason})
    note(f"authority {authority} is revoked")


@app.command("rotate-root")
def rotate_root(
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; without it nothing is begun.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show who would be cut off by a switch now.")
    ] = False,
    abort: Annotated[
        bool, typer.Option("--abort", help="Give the change up: the old root is kept.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the phases until the old root is gone.")
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="ROOT", help="The root that stays: its SHA-256 (default: the newest)."
        ),
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Replace the root, without an outage: what follows happens by itself, as soon as it may.

    The new root must be with the upstream first (for `disk`: in the root file). It is announced to
    every proxy; when all have acknowledged it, signing switches, every leaf is replaced, and the
    old root leaves the bundle when no live certificate chains to it.

    Example: meshca ca rotate-root --dry-run
    """
    client = connect(config, url)
    if dry_run:
        answer = client.get("/roots")
        emit(output, answer, lambda: _rehearse(answer))
        raise typer.Exit(1 if answer["successor"] is None or answer["missing"] else 0)
    if reason is None and (abort or not watch):
        raise CommandFailed("say why: --reason TEXT (or --dry-run, or --watch)", exit_status=2)
    if abort:
        client.post("/roots/keep", {"reason": reason})
        note("the change of root is given up: the old root is trusted again")
        return
    if reason is not None:
        body = {"reason": reason} if to is None else {"reason": reason, "to": _id(to)}
        answer = client.post("/roots/replace", body)
        note(f"the mesh moves to root {answer['successor']}")
    if watch:
        _watch(client)


@app.command("drop-root")
def drop_root(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Its SHA-256.")],
    reason: Why,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Take an announced root, under which nothing was signed, out of every bundle for good."""
    connect(config, url).post(f"/roots/{_id(root)}/drop", {"reason": reason})
    note(f"root {root} is removed, and not taken up again")


@app.command()
def waive(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Its SHA-256.")],
    spiffe_id: Annotated[str, typer.Argument(metavar="SPIFFE_ID")],
    reason: Why,
    pod: Annotated[str, typer.Option(help="The pod, as it is listed.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
) -> None:
    """Let an announced root wait no more for one workload; it may lose its connections for it."""
    body = {"spiffe_id": spiffe_id, "pod": pod, "reason": reason}
    connect(config, url).post(f"/roots/{_id(root)}/waive", body)
    note(f"root {root} does not wait for {spiffe_id} {pod}")


def _id(text: str) -> str:
    name = text.replace(":", "").lower()
    if not 40 <= len(name) <= 64 or set(name) - set("0123456789abcdef"):
        raise CommandFailed(f"{text!r} is not an id as `meshca ca show` gives it", exit_status=2)
    return name


def _authority_row(a: dict[str, Any], signing: str) -> tuple[object, ...]:
    stage = "active, signs" if a["authority_id"] == signing else a["stage"]
    return (
        a["authority_id"],
        a["replica"],
        stage,
        a["since"],
        remaining(a["not_after"]),
        remaining(a["last_certificate_ends"]),
        a["waits_for"],
    )


def _replica_row(r: dict[str, Any]) -> tuple[object, ...]:
    return (r["name"], r["host"], r["started_at"], r["signing"] or "nothing", r["credentials"])


def _root_row(root: dict[str, Any]) -> tuple[object, ...]:
    ends = remaining(root["not_after"])
    return (root["root_sha256"], root["stage"], root["since"], ends, root["subject"])


def _print_missing(roots: dict[str, Any]) -> None:
    rows = [
        (
            m["spiffe_id"],
            m["pod"],
            f"to {m['replica']}" if m["connected"] else "no",
            f"{m['why']}: {m['nack']}" if m["nack"] else m["why"],
            remaining(m["until"]),
        )
        for m in roots["missing"]
    ]
    print_table(_MISSING, rows)
    note(
        f"root {roots['successor']} waits for {roots['missing_count']} workloads: until they have "
        "it, their certificates expire, or they are waived (`meshca ca waive`)"
    )


def _rehearse(roots: dict[str, Any]) -> None:
    if roots["successor"] is None:
        note("there is only one root: give the upstream the new one first")
    elif roots["missing"]:
        _print_missing(roots)
    else:
        note(f"every workload has root {roots['successor']}: nobody would be cut off")


def _watch(client: AdminClient) -> None:
    """Show a bar a phase until nothing is left to do."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.fields[left]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, Any] = {}
        while True:
            answer = client.get("/roots")
            for phase in answer["phases"]:
                name, left = phase["name"], phase["remaining"]
                if name not in bars:
                    bars[name] = progress.add_task(name, total=max(left, 1), left="")
                total = max(progress.tasks[bars[name]].total or 1, left)
                text = f"{left} {phase['of']}" if left else "done"
                progress.update(bars[name], total=total, completed=total - left, left=text)
            if not answer["under_way"]:
                break
            time.sleep(_POLL_SECONDS)
        for bar in bars.values():
            progress.update(bar, completed=progress.tasks[bar].total, left="done")
