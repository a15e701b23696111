"""`meshca svid ban`: who gets no new certificate, until when, and why."""

import re
from collections.abc import Sequence
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
    later,
)
from meshca.cli.output import emit, note, print_table
from meshca.cli.selectors import (
    ClusterOption,
    NamespaceOption,
    NodeOption,
    PodUidOption,
    ServiceAccountOption,
    SpiffeIdOption,
    TokenIdOption,
    given,
)

_BAN: Final = re.compile(r"[0-9a-f]{16}")
_BANS: Final = ("ban", "who", "since", "until", "by", "why")

WhyOption = Annotated[str, typer.Option(metavar="TEXT", help="Why; it is in the audit log.")]
UntilOption = Annotated[
    str | None,
    typer.Option(parser=later, metavar="TIME", help="When the ban ends: a time, or how long (2h)."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca svid`."""
    for command in (ban, unban, bans):
        app.command()(command)


def ban(
    why: WhyOption,
    spiffe_id: SpiffeIdOption = None,
    namespace: NamespaceOption = None,
    service_account: ServiceAccountOption = None,
    pod_uid: PodUidOption = None,
    node: NodeOption = None,
    cluster: ClusterOption = None,
    token_id: TokenIdOption = None,
    until: UntilOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Ban whoever the options select from new certificates, at every door and also on renewal.

    What they hold stays good until it ends: `meshca svid revoke ... --ban` does both.

    Example: meshca svid ban --node worker-7 --until 2h --why "INC-7: it is being looked at"
    """
    selector = given(
        spiffe_id=spiffe_id,
        namespace=namespace,
        service_account=service_account,
        pod_uid=pod_uid,
        node=node,
        cluster=cluster,
        token_id=token_id,
    )
    body = {"selector": selector, "until": until, "why": words(why)}
    answer = connect(config, url).post("/bans", body)
    emit(output, answer, lambda: _print_bans([answer]))


def unban(
    name: Annotated[str, typer.Argument(metavar="BAN", help="As `meshca svid bans` gives it.")],
    why: WhyOption,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """End a ban before its time; whoever it held back gets certificates again.

    Example: meshca svid unban 1f0c5b7a9d3e2846 --why "INC-7: the node was rebuilt"
    """
    if not _BAN.fullmatch(name):
        raise CommandFailed(f"{name!r} is not a ban as `meshca svid bans` gives it", exit_status=2)
    answer = connect(config, url).post(f"/bans/{name}/lift", {"why": words(why)})
    emit(output, answer, lambda: note(f"ban {name} is lifted"))


def bans(
    all_: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List who is banned from new certificates: since when, until when, by whom and why.

    Example: meshca svid bans --all --output json
    """
    answer = connect(config, url).get("/bans", all="true" if all_ else None)
    emit(output, answer, lambda: _print_bans(answer["bans"]))


def words(why: str) -> str:
    """Return why, in words; raises CommandFailed when there are none."""
    if not why.strip():
        raise CommandFailed("--why is empty: say why, for the audit log", exit_status=2)
    return why


def _print_bans(listed: Sequence[dict[str, Any]]) -> None:
    rows = [
        (b["ban"], selected_by(b["selector"]), b["since"], ends(b), b["actor"], b["why"])
        for b in listed
    ]
    print_table(_BANS, rows)


def ends(one: dict[str, Any]) -> str:
    """Return when a ban ends, or how it ended."""
    if one["lifted_at"] is not None:
        return f"lifted {one['lifted_at']}"
    if one["until"] is None:
        return "for good"
    return f"until {one['until']}" if one["holds"] else f"ended {one['until']}"


def selected_by(selector: dict[str, str]) -> str:
    """Return a selector on one line."""
    return " ".join(f"{name}={value}" for name, value in selector.items())
