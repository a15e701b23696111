"""`meshca audit backup`, `restore`: the whole log in one file, and back into an empty database."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from meshca.cli.authz_staging import ReasonOption, said
from meshca.cli.client import connect
from meshca.cli.failure import CommandFailed
from meshca.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    Output,
    OutputOption,
    UrlOption,
    load_settings,
)
from meshca.cli.output import emit, note, print_fields

if TYPE_CHECKING:
    import sqlalchemy as sa

    from audit.backup.restore import Restored, Terms
    from audit.note import VerifierKey
    from meshca.settings import Settings

_LARGEST_NOTES: Final = 1 << 24


def register(app: typer.Typer) -> None:
    """Add the commands to those of `meshca audit`."""
    for command in (backup, restore):
        app.command()(command)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file; mode 0600.")],
    direct: Annotated[
        bool,
        typer.Option("--direct", help="Read the database of --config; no server has to run."),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    url: UrlOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Write the whole log, up to its newest checkpoint, into FILE.

    It holds every entry, what is left of redacted ones, checkpoints, holds and the log's public
    keys, and no private key. Nothing is overwritten. The server goes on meanwhile.

    Example: meshca audit backup /backup/audit-2026-11-21.gz
    """
    from audit.backup.files import write_new

    if direct and url is not None:
        message = "--direct reads the database of --config: it takes no --url"
        raise CommandFailed(message, exit_status=2)
    if direct:
        size = write_new(file, _direct(load_settings(config)))
    else:
        size = write_new(file, connect(config, url).chunks("/audit/backup"))
    try:
        answer = {"file": str(file), "bytes": size, **_told(file)}
    except CommandFailed:
        file.unlink()
        raise

    def table() -> None:
        print_fields((name, value) for name, value in answer.items() if name != "checkpoint")

    emit(output, answer, table)


def _told(file: Path) -> dict[str, object]:
    """Return what the file says of itself, once it is seen to be whole."""
    from audit.backup.form import BackupRefused, parse_header, parsed, unpack

    try:
        with file.open("rb") as stream:
            lines = unpack(stream)
            header = parse_header(parsed(next(lines, (b"", b""))[1]))
            for _ in lines:
                pass
    except BackupRefused as error:
        raise CommandFailed(f"the backup did not come whole: {error}") from error
    return {"origin": header.origin, "entries": header.size, "checkpoint": header.checkpoint}


def _direct(settings: "Settings") -> Iterator[bytes]:
    """Yield a backup of the database that `settings` name, once the log says who reads it."""
    from audit.backup.direct import direct_backup
    from meshca.clock import SystemClock
    from meshca.database import open_engine

    engine = open_engine(settings.database_url)
    try:
        origin = settings.audit.name(settings.trust_domain)
        yield from direct_backup(engine, origin, actor=_actor(), now=SystemClock().now())
    finally:
        engine.dispose()


def _actor() -> str:
    import os

    return f"uid:{os.getuid()}"


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")],
    key: Annotated[
        list[str],
        typer.Option(metavar="KEY", help="A public key of the log, as kept elsewhere; repeatable."),
    ],
    reason: ReasonOption,
    origin: Annotated[
        str | None,
        typer.Option(help="The backup's log, if it is not the one that --config names."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A checkpoint that an anchor has; may be repeated."),
    ] = None,
    accept_older: Annotated[
        bool,
        typer.Option(
            "--accept-older", help="Lose what is known to have come after it; it is on record."
        ),
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    output: OutputOption = Output.table,
) -> None:
    """Restore FILE into the database of --config, whose log is empty, while no server runs.

    Everything is verified before any of it is in force: the checkpoint's signature by one of the
    keys given, every entry, the tree; and that no anchor has more. See
    docs/runbooks/audit-restore.md.

    Example: meshca audit restore audit.gz --key "$(cat audit.pub)" --reason "INC-9: disk died"
    """
    from audit.note import VerifierKey
    from meshca.errors import RequestRefused

    settings = load_settings(config)
    try:
        keys = [VerifierKey.parse(text.strip()) for text in key]
    except RequestRefused as error:
        raise CommandFailed(f"--key: {error}", exit_status=2) from error
    notes = [text for path in checkpoint or [] for text in _notes(path)]
    name = origin or settings.audit.name(settings.trust_domain)
    restored = _restore(
        settings, file, keys, notes, origin=name, reason=said(reason), accept_older=accept_older
    )
    answer = {
        "entries": restored.checkpoint.size,
        "root": restored.checkpoint.root.hex(),
        "redacted": restored.redacted,
        "lost": restored.lost,
    }

    def table() -> None:
        print_fields(answer.items())
        note("start the server, then: meshca audit verify")

    emit(output, answer, table)


def _notes(path: Path) -> list[str]:
    from audit.checkpoint import read_notes

    try:
        with path.open("rb") as file:
            return read_notes(file.read(_LARGEST_NOTES))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {error}") from error


def _restore(
    settings: "Settings",
    file: Path,
    keys: "list[VerifierKey]",
    notes: list[str],
    *,
    origin: str,
    reason: str,
    accept_older: bool,
) -> "Restored":
    from audit.backup.offline import alone
    from audit.backup.restore import Terms, known_checkpoints
    from audit.signing import LastSigned
    from meshca.clock import SystemClock
    from meshca.database import open_engine
    from meshca.schema import migrate

    last = LastSigned(settings.data_dir / "audit" / "last-checkpoint")
    engine = open_engine(settings.database_url)
    try:
        with alone(engine, [f"replica.{settings.replica}"]):
            migrate(engine)
            notes += _anchored(settings, origin, engine)
            mine = last.read(origin)
            terms = Terms(
                keys=keys,
                origin=origin,
                signs_as=settings.audit.name(settings.trust_domain),
                known=[*known_checkpoints(notes, keys, origin), *([mine] if mine else [])],
                accept_older=accept_older,
                actor=_actor(),
                reason=reason,
                now=SystemClock().now(),
            )
            return _put(engine, file, terms)
    finally:
        engine.dispose()


def _anchored(settings: "Settings", origin: str, engine: "sa.Engine") -> list[str]:
    """Return the newest checkpoint of each anchor that is configured and can be asked."""
    import asyncio

    from audit.log import Log
    from meshca.clock import SystemClock
    from meshca.errors import Unavailable
    from meshca.wiring_anchors import build_anchors

    found = []
    for anchor in build_anchors(settings, origin=origin, log=Log(engine), clock=SystemClock()):
        try:
            newest = asyncio.run(anchor.newest())
        except Unavailable as error:
            note(f"not compared with {anchor.name}: {error}")
            continue
        if newest is not None:
            found.append(str(newest.note))
    return found


def _put(engine: "sa.Engine", file: Path, terms: "Terms") -> "Restored":
    from audit.backup.restore import restore as put

    try:
        with file.open("rb") as stream:
            return put(engine, stream, terms)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read: {error.strerror}") from error
