"""Files that must not take the place of others: new, on the disk, all of them or none."""

import os
from collections.abc import Sequence
from pathlib import Path

from meshca.errors import Unavailable


def write_new(files: Sequence[tuple[Path, bytes, int]]) -> None:
    """Write each (path, content, mode) to a new file, all of them or none.

    Raises Unavailable when one exists or cannot be written; files made here are then removed.
    """
    made: list[Path] = []
    try:
        for path, content, mode in files:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            made.append(path)
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise Unavailable(
            f"{error.filename or made[-1]} cannot be written: {error.strerror}; nothing was kept"
        ) from error
