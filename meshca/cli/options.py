"""Options that many commands share, and how their values are read."""

import getpass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meshca.cli.failure import CommandFailed
from meshca.durations import parse_duration

if TYPE_CHECKING:
    from datetime import timedelta

    from meshca.settings import Settings

DEFAULT_CONFIG = Path("meshca.yaml")


class Output(StrEnum):
    """How data is printed."""

    table = "table"
    json = "json"
    yaml = "yaml"


ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        envvar="MESHCA_CONFIG",
        metavar="FILE",
        help="The server's configuration.",
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="MESHCA_URL",
        metavar="unix:PATH|https://HOST:PORT",
        help="The server, instead of the admin socket that --config names.",
    ),
]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print.")]


def load_settings(config: Path) -> "Settings":
    """Return the settings in `config`; raises CommandFailed when there is no such file."""
    from meshca import settings

    try:
        config.stat()
    except FileNotFoundError as error:
        raise CommandFailed(
            f"there is no configuration at {config}",
            hint="name one with --config FILE or MESHCA_CONFIG, or make one: "
            "meshca init DIR --trust-domain example.org",
        ) from error
    except PermissionError as error:
        raise CommandFailed(
            f"permission denied: user {getpass.getuser()} may not read {config}",
            hint="run this as root or as the user that the server runs as",
        ) from error
    return settings.load(config)


def duration(text: str) -> "timedelta":
    """Return the duration `text`; for typer's `parser=`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def later(text: str) -> str:
    """Return the time `text` names, in RFC 3339: a timestamp, or how far ahead (`15m`, `2h`)."""
    from meshca.clock import SystemClock

    try:
        return (SystemClock().now() + parse_duration(text)).isoformat()
    except (ValueError, OverflowError):
        return _timestamp(text, "a duration like 15m or 2h")


def instant(text: str) -> str:
    """Return the time `text` names, in RFC 3339: a timestamp, or how long ago (`15m`, `2h`)."""
    from meshca.clock import SystemClock

    try:
        return (SystemClock().now() - parse_duration(text)).isoformat()
    except (ValueError, OverflowError):
        return _timestamp(text, "an age like 15m or 2h")


def _timestamp(text: str, otherwise: str) -> str:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is neither a time like 2026-11-01T12:00:00Z nor {otherwise}"
        ) from error
    return time.astimezone().isoformat() if time.tzinfo is None else time.isoformat()
