"""Checkpoints: what the log commits to, as the text of a signed note (C2SP tlog-checkpoint).

    <origin>                 which log this is
    <size>                   how many entries it has, decimal
    <root>                   base64 of the RFC 6962 root hash over them
    <extension lines>        none of ours; carried, never interpreted

Pure: signatures are `audit.note`, proofs between checkpoints `audit.merkle`.
"""

import base64
import binascii
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from audit.note import Note, NoteRefused, VerifierKey, parse_note, verify_note

MAXIMUM_SIZE: Final = 2**63 - 1
CUT_OFF: Final = "~ cut off\n"  # ends the line at which a note in a file was cut off
_ROOT_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of the log `origin` when it had `size` entries; `str()` is the note's text."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise NoteRefused for what no checkpoint can say."""
        lines = (self.origin, *self.extensions)
        if not all(lines) or any("\n" in line for line in lines):
            raise NoteRefused("malformed", "a checkpoint's lines are not empty")
        if not 0 <= self.size <= MAXIMUM_SIZE or len(self.root) != _ROOT_BYTES:
            raise NoteRefused("malformed", "a checkpoint has a size and a root of 32 bytes")

    def __str__(self) -> str:
        root = base64.b64encode(self.root).decode()
        lines = (self.origin, str(self.size), root, *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(text: str) -> Checkpoint:
    """Return the checkpoint that a note's `text` is; raises NoteRefused."""
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() != "":
        raise NoteRefused("malformed", "a checkpoint is at least three lines")
    origin, size, root, *extensions = lines
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size, re.ASCII):
        raise NoteRefused("malformed", "a checkpoint's size is a decimal number")
    try:
        checkpoint = Checkpoint(
            origin, int(size), base64.b64decode(root, validate=True), tuple(extensions)
        )
    except (binascii.Error, ValueError) as error:
        raise NoteRefused("malformed", "a checkpoint's root is not base64") from error
    if str(checkpoint) != text:
        raise NoteRefused("malformed", "a checkpoint's root is not canonical base64")
    return checkpoint


def open_checkpoint(
    data: bytes | str, keys: Iterable[VerifierKey], *, origin: str = ""
) -> tuple[Checkpoint, Note]:
    """Return the checkpoint in the note `data`, once at least one of `keys` is seen to have signed.

    That key's name must be the checkpoint's origin (C2SP tlog-checkpoint): a key of one log says
    nothing of another. With `origin`, another log's checkpoint is refused. Raises NoteRefused.
    """
    note = parse_note(data)
    signed = verify_note(note, keys)
    checkpoint = parse_checkpoint(note.text)
    if all(verified.key.name != checkpoint.origin for verified in signed):
        raise NoteRefused("not_signed", "a known key signed this note, and it is another log's")
    if origin and checkpoint.origin != origin:
        raise NoteRefused("malformed", "the checkpoint is another log's")
    return checkpoint, note


def split_notes(data: str) -> list[str]:
    """Return the notes of a file that holds one after another, separated by an empty line.

    The text of our checkpoints has no empty line of its own, so a note begins after each empty
    line that follows a signature. What follows the last signature line is a note that was cut
    off, and is the last element. One that was closed (CUT_OFF) is left out, up to the last whole
    signature before it; nothing else is.
    """
    notes: list[str] = []
    lines: list[str] = []
    is_signed = is_closed = False
    for line in io.StringIO(data, newline="\n"):
        ends = line.endswith(CUT_OFF)
        if ends or (line == "\n" and (is_signed or is_closed)):
            notes += ["".join(lines)] if is_signed else []
            lines, is_signed, is_closed = [], False, ends
            continue
        lines.append(line)
        is_signed = is_signed or line.startswith("\u2014 ")
        is_closed = False
    return [*notes, "".join(lines)] if any(line != "\n" for line in lines) else notes


def read_notes(data: bytes) -> list[str]:
    """Return the notes of a file as `split_notes` does; raises UnicodeDecodeError.

    What was cut off and closed may end in the middle of a character.
    """
    notes = split_notes(data.decode(errors="surrogateescape"))
    return [note.encode(errors="surrogateescape").decode() for note in notes]
