"""`meshca svid revoke` and its kin: revoke certificates, release a hold, see what is revoked."""

import re
from typing import Annotated, Any, Final

import typer

from ca.revocation.reason import Reason
from meshca.cli.bans import UntilOption, WhyOption, ends, selected_by, words
from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
)
from meshca.cli.output import emit, note, print_fields, print_table, remaining
from meshca.cli.revocation_timeline import print_timeline
from meshca.cli.selectors import (
    AuthorityOption,
    ClusterOption,
    FingerprintOption,
    NamespaceOption,
    NodeOption,
    PodUidOption,
    SerialOption,
    ServiceAccountOption,
    SpiffeIdOption,
    TokenIdOption,
    given,
)

REVOKE_TIMEOUT_SECONDS: Final = 600.0
_CONFIRMED: Final = re.compile(r"--yes-revoke-([0-9]{1,9})")
_SERIAL: Final = re.compile(r"[0-9a-fA-F:]{1,128}")
_HIT: Final = ("serial", "identity", "ends", "authority", "sha256")
_REVOKED: Final = ("serial", "identity", "reason", "revoked", "ends", "decision")
_YES_REVOKE: Final = {"ignore_unknown_options": True, "allow_extra_args": True}
"""For `--yes-revoke-N`: the number is part of the name, so that nobody types it blindly."""


def _reason(name: str) -> str:
    if name not in Reason.__members__:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(Reason.__members__)}")
    return name


ReasonOption = Annotated[
    str,
    typer.Option(parser=_reason, metavar="REASON", help="Of RFC 5280, such as keyCompromise."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca svid`."""
    app.command(context_settings=_YES_REVOKE)(revoke)
    for command in (unrevoke, revocation, revocations):
        app.command()(command)


def revoke(
    context: typer.Context,
    serial: SerialOption = None,
    fingerprint: FingerprintOption = None,
    spiffe_id: SpiffeIdOption = None,
    namespace: NamespaceOption = None,
    service_account: ServiceAccountOption = None,
    pod_uid: PodUidOption = None,
    node: NodeOption = None,
    cluster: ClusterOption = None,
    token_id: TokenIdOption = None,
    authority: AuthorityOption = None,
    with_ban: Annotated[
        bool, typer.Option("--ban", help="Ban whoever is selected from new ones, too.")
    ] = False,
    until: UntilOption = None,
    reason: ReasonOption = Reason.unspecified.name,
    why: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why; it is in the audit log.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be hit.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Revoke every live certificate that the options select; with several, all must agree.

    More than `revocation.confirm_above` (10) need --yes-revoke-N with the right N, as --dry-run
    says it. Workloads that are not banned get another certificate at once. Exit 1 when nothing was
    hit and nobody banned. Only certificateHold can be undone: `meshca svid unrevoke`.

    Example: meshca svid revoke --node worker-7 --ban --reason keyCompromise --why INC-7 --dry-run
    """
    confirmed = _confirmed(context)
    if until is not None and not with_ban:
        context.fail("--until says when a ban ends: it needs --ban")
    if why is None and not dry_run:
        context.fail("Missing option '--why'.")
    body = {
        "selector": given(
            serial=serial,
            fingerprint=fingerprint,
            spiffe_id=spiffe_id,
            namespace=namespace,
            service_account=service_account,
            pod_uid=pod_uid,
            node=node,
            cluster=cluster,
            token_id=token_id,
            authority_id=authority,
        ),
        "reason": reason,
        "why": "a rehearsal" if why is None else words(why),
        "dry_run": dry_run,
        "confirmed": confirmed,
        "ban": {"until": until} if with_ban else None,
    }
    answer = connect(config, url).post("/revocations", body, timeout=REVOKE_TIMEOUT_SECONDS)
    emit(output, answer, lambda: _print_hit(answer))
    if not dry_run and not answer["count"] and answer["ban"] is None:
        raise typer.Exit(1)


def unrevoke(
    serial: Annotated[str, typer.Argument(help="In hex, with or without colons.")],
    why: WhyOption,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Release a certificate from certificateHold: it is believed again. Nothing else can be undone.

    Example: meshca svid unrevoke 3f:a1:... --why "INC-7: the laptop was found"
    """
    body = {"why": words(why)}
    answer = connect(config, url).post(f"/revocations/{_serial(serial)}/release", body)
    emit(output, answer, lambda: note(f"serial {answer['serial']} is not on hold any more"))


def revocation(
    serial: Annotated[str, typer.Argument(help="In hex, with or without colons.")],
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show the revocation of one certificate: by which decision, whose, why, and its timeline.

    The timeline says when it was decided, listed, pushed and acknowledged, and who is behind.

    Exit 1 when it was never revoked.
    """
    answer = connect(config, url).get(f"/revocations/{_serial(serial)}")
    emit(output, answer, lambda: _print_revocation(answer))


def revocations(
    spiffe_id: SpiffeIdOption = None,
    authority: AuthorityOption = None,
    decision: Annotated[str | None, typer.Option(help="Of this decision.")] = None,
    reason: Annotated[
        str | None, typer.Option(parser=_reason, metavar="REASON", help="For this reason.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 100,
    cursor: Annotated[
        str | None, typer.Option(help="Go on there: `next` of the page before.")
    ] = None,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """List the certificates that are revoked and have not ended, newest first.

    Example: meshca svid revocations --reason certificateHold
    """
    answer = connect(config, url).get(
        "/revocations",
        spiffe_id=spiffe_id,
        authority_id=authority,
        decision=decision,
        reason=reason,
        limit=limit,
        cursor=cursor,
    )

    def table() -> None:
        print_table(_REVOKED, [_revoked_row(r) for r in answer["revocations"]])
        if answer["next"] is not None:
            note(f"more: --cursor {answer['next']}")

    emit(output, answer, table)


def _confirmed(context: typer.Context) -> int | None:
    """Return the N of `--yes-revoke-N`, if it was given; any other unknown option is an error."""
    found: set[int] = set()
    for argument in context.args:
        match = _CONFIRMED.fullmatch(argument)
        if match is None and argument.startswith("-"):
            context.fail(f"No such option: {argument}")
        if match is None:
            context.fail(f"Got unexpected extra argument ({argument})")
        found.add(int(match[1]))
    if len(found) > 1:
        context.fail("--yes-revoke-N was given with different numbers")
    return found.pop() if found else None


def _serial(text: str) -> str:
    if not _SERIAL.fullmatch(text):
        raise CommandFailed(f"{text!r} is not a serial in hex", exit_status=2)
    return text


def _print_hit(answer: dict[str, Any]) -> None:
    names = ("serial", "spiffe_id", "not_after", "authority_id", "fingerprint")
    rows = ({**hit, "not_after": remaining(hit["not_after"])} for hit in answer["hit"])
    print_table(_HIT, [[row[name] for name in names] for row in rows])
    count = answer["count"]
    if (more := count - len(answer["hit"])) > 0:
        note(f"and {more} more")
    if answer["dry_run"]:
        yes = f"; it needs --yes-revoke-{count}" if answer["must_confirm"] else ""
        note(f"{count} certificates would be revoked{yes}")
    elif answer["decision"]:
        note(f"{count} certificates are revoked, decision {answer['decision']}")
    else:
        note("nothing was hit: no live certificate is selected that is not revoked already")
    if answer["ban"] is not None:
        note(f"ban {answer['ban']['ban']} holds {ends(answer['ban'])}")


def _print_revocation(answer: dict[str, Any]) -> None:
    decided = answer["decided"]
    names = ("serial", "spiffe_id", "authority_id", "fingerprint", "not_after", "reason")
    fields = [(name.replace("_", " "), answer[name]) for name in names]
    print_fields(
        [
            *fields,
            ("revoked at", answer["revoked_at"]),
            ("released at", answer["released_at"]),
            ("decision", decided["decision"]),
            ("decided at", decided["at"]),
            ("by", decided["actor"]),
            ("why", decided["why"]),
            ("selected by", selected_by(decided["selector"])),
            ("hit in all", decided["count"]),
            ("open", "not all of it is done yet" if decided["open"] else ""),
        ]
    )
    print_timeline(answer["timeline"])


def _revoked_row(r: dict[str, Any]) -> tuple[object, ...]:
    left = remaining(r["not_after"])
    return (r["serial"], r["spiffe_id"], r["reason"], r["revoked_at"], left, r["decision"])
