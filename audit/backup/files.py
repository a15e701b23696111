"""Backup files: made whole or not at all, never over another one, for our own user only."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from meshca.errors import Conflict, StoreUnavailable


def write_new(path: Path, chunks: Iterable[bytes]) -> int:
    """Write `chunks` to the new file `path`, on the disk before it has its name; return its size.

    Raises Conflict when there is such a file, StoreUnavailable when it cannot be written, and what
    `chunks` raise; nothing is left behind then.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    if path.exists() or path.is_symlink():
        raise Conflict(f"{path} exists: a backup overwrites nothing")
    try:
        size = _write(part, chunks)
        os.link(part, path)  # fails if somebody was faster
        _sync_directory(path.parent)
    except FileExistsError as error:
        raise Conflict(f"{path} exists: a backup overwrites nothing") from error
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return size


def _write(path: Path, chunks: Iterable[bytes]) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
