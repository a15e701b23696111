"""`meshca status`: one screen."""

from typing import Any

import typer

from meshca.cli.client import connect
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
)
from meshca.cli.output import emit, print_fields, remaining
from meshca.cli.overlay import overlay_fields


def status(
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Show one screen: can it sign, its authorities and their clocks, proxies, policies, log head.

    Exit 1 when the server runs but is not ready.
    """
    answer = connect(config, url).get("/status")
    emit(output, answer, lambda: _table(answer))
    if not answer["ready"]:
        raise typer.Exit(1)


def _table(answer: dict[str, Any]) -> None:
    authority = answer["authority"] or {}
    proxies, policies, log = answer["proxies"], answer["policies"], answer["audit"]
    print_fields(
        [
            ("ready", "yes" if answer["ready"] else "NO: " + "; ".join(answer["problems"])),
            ("trust domain", answer["trust_domain"]),
            ("version", answer["version"]),
            ("running since", answer["started_at"]),
            ("authority", authority.get("id", "none")),
            ("  chain ends", _clock(authority.get("not_after"))),
            *(("root", f"{r['id']} ends {_clock(r['not_after'])}") for r in answer["roots"]),
            ("proxies", f"{proxies['connected']} connected, {proxies['behind']} behind"),
            ("  NACKs", proxies["nacks"] or ""),
            ("policies", f"{policies['policies']} in force, else {policies['default']}"),
            ("  version", policies["version"]),
            *(("  NOT LOADED", problem) for problem in policies["problems"]),
            ("  STALE", ", ".join(policies["stale"])),
            *overlay_fields(policies),
            ("federated", _federated(answer["federation"])),
            ("audit log", f"{log['size']} entries, root {log['root'][:16]}"),
            *map(_anchor, log.get("anchors", ())),
        ]
    )


def _anchor(each: dict[str, Any]) -> tuple[str, str]:
    """Return one line: where it stands and, when it is not well, since when, why, what to do."""
    held = f"{each['size']} entries, {each['behind']} behind"
    if each["state"] in ("well", "new"):
        when = each["confirmed_at"] or "never yet"
        return "  anchor", f"{each['anchor']}: {held}, confirmed {when}"
    since, why = each["failing_since"], f"{each['problem']}; {each['advice']}"
    return f"  {each['state'].upper()}", f"{each['anchor']} since {since} at {held}: {why}"


def _federated(federation: dict[str, Any]) -> str:
    stale = ", ".join(federation["stale"])
    count = federation["trust_domains"]
    return f"{count} trust domains" + (f"; STALE: {stale}" if stale else "") if count else ""


def _clock(time: str | None) -> str:
    return f"{time} ({remaining(time)})" if time else ""
