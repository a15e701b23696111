"""What `meshca authz diff` compares: files and directories, or sets that the server names."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meshca.cli.authz_check import load, load_directory
from meshca.cli.failure import CommandFailed
from meshca.cli.policy_options import Options

if TYPE_CHECKING:
    from authz.policy import PolicySet

_OF_SERVER = re.compile(r"current|staged|applied:[0-9]{1,9}")


def is_of_server(operand: str) -> bool:
    """Return whether only the server knows the set; a file of that name is meant by `./current`."""
    return _OF_SERVER.fullmatch(operand) is not None


def load_operand(operand: str, options: Options) -> "PolicySet":
    """Return the set in a directory or a file.

    Raises CommandFailed, and InvalidDocument with every problem.
    """
    path = Path(operand)
    return load_directory(path, options) if path.is_dir() else load(lambda: _texts(path), options)


def for_server(operand: str) -> str | dict[str, Any]:
    """Return the operand as the server takes it: its name, or the documents."""
    if is_of_server(operand):
        return operand
    path = Path(operand)
    if not path.is_dir():
        return {"documents": _texts(path)[0][1]}
    from authz.directory import read_directory

    return {"documents": "\n---\n".join(text for _, text in read_directory(path))}


def _texts(path: Path) -> Sequence[tuple[str, str]]:
    try:
        return [(str(path), path.read_text(encoding="utf-8"))]
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(
            f"cannot read {path}: {error}",
            hint="name a file, a directory, current, staged or applied:N",
        ) from error
