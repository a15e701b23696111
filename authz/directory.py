"""Policy files of one directory, read whole.

Files are `*.yaml` and `*.yml`, in the order of their names; hidden names are skipped, links are
followed, so a mounted ConfigMap (`policy.yaml -> ..data/policy.yaml`) reads as its files.
Directories inside it are not read; one that holds policy files is an error, since its policies
would silently not be in force.
"""

from pathlib import Path

from meshca.errors import InvalidDocument, Problem
from meshca.yaml_source import MAXIMUM_BYTES

_SUFFIXES = frozenset({".yaml", ".yml"})

Texts = tuple[tuple[str, str], ...]
"""Pairs of a source's name and its text."""


def read_directory(directory: Path) -> Texts:
    """Return the name and the text of each policy file in `directory`.

    Raises InvalidDocument with every file that cannot be read.
    """
    problems: list[Problem] = []
    texts: list[tuple[str, str]] = []
    for path in _listed(directory):
        try:
            if path.is_dir():
                problems += _nested(path)
            elif path.suffix in _SUFFIXES:
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


def _nested(directory: Path) -> list[Problem]:
    held = [path for path in _listed(directory) if path.suffix in _SUFFIXES]
    message = "directories inside a source are not read; list it as a source of its own"
    return [Problem("", message, str(directory))] if held else []
