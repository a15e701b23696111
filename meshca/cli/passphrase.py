"""Getting a passphrase: typed where nobody sees it, or from a file descriptor; never an argument.

What stands in arguments or in the environment can be read by others; a descriptor cannot.
"""

import os
import sys
from typing import Final

import typer

from meshca.cli.failure import CommandFailed

_MOST_BYTES: Final = 1024


def read_passphrase(descriptor: int | None, what: str, *, is_new: bool) -> bytes:
    """Return the passphrase of `what`; one that is new is asked for twice.

    From a descriptor it is everything up to its end, less one newline. Raises CommandFailed when
    there is none, or nobody to ask.
    """
    passphrase = _typed(what, is_new) if descriptor is None else _read(descriptor)
    if not passphrase:
        raise CommandFailed(f"the passphrase of {what} is empty")
    return passphrase


def _typed(what: str, is_new: bool) -> bytes:
    if not sys.stdin.isatty():
        raise CommandFailed(
            f"no terminal to ask for the passphrase of {what}", hint="give --passphrase-fd N"
        )
    text: str = typer.prompt(
        f"passphrase of {what}", hide_input=True, confirmation_prompt=is_new, err=True
    )
    return text.encode()


def _read(descriptor: int) -> bytes:
    try:
        with os.fdopen(descriptor, "rb") as file:
            passphrase = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise CommandFailed(
            f"file descriptor {descriptor} cannot be read: {error.strerror}",
            hint="open it in the shell: meshca root ceremony PLAN.yaml --passphrase-fd 3 3< FILE",
        ) from error
    if len(passphrase) > _MOST_BYTES:
        raise CommandFailed(f"the passphrase is longer than {_MOST_BYTES} bytes")
    return passphrase.removesuffix(b"\n")
