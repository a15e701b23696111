"""Policy files of one directory, read whole.

Files are `*.yaml` and `*.yml` in any case, in the order of their names; hidden names are skipped,
links are followed, so a mounted ConfigMap (`policy.yaml -> ..data/policy.yaml`) reads as its files.
Directories inside it are not read; one that holds policy files, however far below, is an error,
since its policies would silently not be in force. So is more below than can be looked through.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshca.errors import InvalidDocument, Problem
from meshca.yaml_source import MAXIMUM_BYTES

MAXIMUM_DEPTH: Final = 16
MAXIMUM_BELOW: Final = 10_000
"""Names in the directories inside one source."""

_SUFFIXES = frozenset({".yaml", ".yml"})

Texts = tuple[tuple[str, str], ...]
"""Pairs of a source's name and its text."""


def read_directories(directories: Iterable[Path]) -> tuple[Texts, tuple[Problem, ...]]:
    """Return the texts of all `directories`, and the problems of those that cannot be read."""
    texts: list[tuple[str, str]] = []
    problems: list[Problem] = []
    for directory in directories:
        try:
            texts += read_directory(directory)
        except InvalidDocument as error:
            problems += error.problems
    return tuple(texts), tuple(problems)


def read_directory(directory: Path) -> Texts:
    """Return the name and the text of each policy file in `directory`.

    Raises InvalidDocument with every file that cannot be read.
    """
    problems: list[Problem] = []
    texts: list[tuple[str, str]] = []
    below = _Below(directory)
    for path in _listed(directory):
        try:
            if path.is_dir():
                problems += below.problems(path)
            elif _is_policy(path.name):
                texts.append((str(path), _read(path)))
        except (OSError, ValueError) as error:
            problems.append(Problem("", f"cannot be read: {error}", str(path)))
    if problems:
        raise InvalidDocument(problems)
    return tuple(texts)


def _read(path: Path) -> str:
    if not path.is_file() and path.exists():
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        content = file.read(MAXIMUM_BYTES + 1)
    if len(content) > MAXIMUM_BYTES:
        raise ValueError(f"it is larger than {MAXIMUM_BYTES} bytes")
    return content.decode("utf-8")


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        message = f"cannot be listed: {error.strerror}"
        raise InvalidDocument([Problem("", message, str(directory))]) from error


def _is_policy(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in _SUFFIXES


@dataclass(slots=True)
class _Below:
    """Looks through directories inside a source, each once, wherever links lead."""

    source: Path
    names: int = 0
    seen: set[tuple[int, int]] = field(default_factory=set)

    def enter(self, directory: str | Path) -> bool:
        """Return whether `directory` was not looked through yet."""
        at = os.stat(directory)
        known = (at.st_dev, at.st_ino) in self.seen
        self.seen.add((at.st_dev, at.st_ino))
        return not known

    def problems(self, directory: Path) -> list[Problem]:
        """Return what is wrong with what is in `directory`: a problem at most."""
        try:
            self.enter(self.source)
            found = self._first(directory, 1)
        except (OSError, ValueError) as error:
            return [Problem("", f"cannot be looked through: {error}", str(directory))]
        message = (
            "directories inside a source are not read: move the policies up, or the directory out "
            "and list it as a source of its own"
        )
        return [] if found is None else [Problem("", message, found)]

    def _first(self, directory: str | Path, depth: int) -> str | None:
        """Return the first directory in which a policy file is, if any."""
        if not self.enter(directory):
            return None
        if depth > MAXIMUM_DEPTH:
            raise ValueError(f"more than {MAXIMUM_DEPTH} directories are in one another")
        inside = []
        with os.scandir(directory) as entries:
            for entry in entries:
                self.names += 1
                if self.names > MAXIMUM_BELOW:
                    raise ValueError(f"more than {MAXIMUM_BELOW} names are below the source")
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    inside.append(entry.path)
                elif _is_policy(entry.name):
                    return str(directory)
        found = (self._first(path, depth + 1) for path in sorted(inside))
        return next((each for each in found if each is not None), None)
