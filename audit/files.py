"""Small files of our own: replaced whole or not at all, and readable by our own user only."""

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from meshca.errors import StoreUnavailable

MAXIMUM_BYTES: Final = 256 * 1024


def make_private_directory(path: Path) -> None:
    """Make `path`, for our own user only; raises StoreUnavailable."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be made: {error.strerror}") from error


def replace_file(path: Path, content: bytes) -> None:
    """Write `content` to `path`, on the disk before the call returns.

    Raises StoreUnavailable; what was there before is then still there.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error.strerror}") from error


def read_private(path: Path) -> bytes:
    """Return the content of a file of our own.

    Raises FileNotFoundError, and StoreUnavailable when it is no plain file, is readable by others,
    or too large.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
                raise StoreUnavailable(f"{path} is no plain file, or others can read it")
            content = file.read(MAXIMUM_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > MAXIMUM_BYTES:
        raise StoreUnavailable(f"{path} is larger than {MAXIMUM_BYTES} bytes")
    return content


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)
