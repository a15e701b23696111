"""What lies over policy, as lines for people: what is on trial, and what is open by emergency."""

from typing import Any

from meshca.cli.output import remaining


def overlay_fields(overlay: dict[str, Any]) -> list[tuple[str, str]]:
    """Return one line for each thing that lies over the documents in force."""
    return [
        ("  on trial", overlay["candidate"] or ""),
        ("  canary in", ", ".join(overlay["canary"])),
        *(("  BREAK-GLASS", name) for name in overlay["break_glass"]),
        *(("  BYPASS", _bypass(bypass)) for bypass in overlay["bypasses"]),
    ]


def _bypass(bypass: dict[str, Any]) -> str:
    labels = ",".join(f"{key}={value}" for key, value in bypass["labels"].items())
    where = f"{bypass['namespace']}/{labels or '(all)'}"
    return (
        f"{bypass['bypass']} of {where} until {bypass['expires']} ({remaining(bypass['expires'])})"
    )
