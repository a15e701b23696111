"""Several policy files as one text, and problems of that text as problems of the files."""

import sys
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from meshca.cli.failure import CommandFailed
from meshca.errors import Problem

STANDARD_INPUT = Path("-")
_SEPARATOR = "---\n"

Starts = Sequence[tuple[int, str]]
"""The first line of each file in the joined text, and the file's name."""


def expand(files: Sequence[Path]) -> list[Path]:
    """Return `files` with each directory replaced by the policy files in it.

    Raises InvalidDocument for a directory that cannot be read as a source is.
    """
    from authz.directory import read_directory

    found: list[Path] = []
    for file in files:
        if file.is_dir():
            found += [Path(name) for name, _ in read_directory(file)]
        else:
            found.append(file)
    return found


def join(files: Sequence[Path]) -> tuple[str, Starts]:
    """Return the files as one text, and where each begins; raises CommandFailed."""
    texts: list[str] = []
    starts: list[tuple[int, str]] = []
    line = 1
    for file in files:
        text = _read(file)
        text += "" if text.endswith("\n") or not text else "\n"
        line += 1  # the separator
        starts.append((line, str(file)))
        texts.append(_SEPARATOR + text)
        line += text.count("\n")
    return "".join(texts), starts


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if file == STANDARD_INPUT else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read {file}: {error}") from error


def place(problem: Problem, starts: Starts) -> Problem:
    """Return `problem` of the applied set as one of the file that its line came from."""
    if not problem.file.startswith("applied set") or not problem.line:
        return problem
    index = bisect_right([line for line, _ in starts], problem.line) - 1
    if index < 0:
        return problem
    first, file = starts[index]
    return Problem(problem.path, problem.message, file, problem.line - first + 1)
