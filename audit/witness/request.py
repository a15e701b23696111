"""What is asked of a witness: the body of add-checkpoint (C2SP tlog-witness), written and read.

    old <size>                   the log's size that the sender believes the witness to have seen
    <base64>                     a consistency proof from there, a hash a line, none up to 63
                                 an empty line
    <checkpoint>                 a signed note

Reading is strict and bounded, and says nothing of whether any of it is true.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from audit.checkpoint import MAXIMUM_SIZE, Checkpoint, parse_checkpoint
from audit.merkle import HASH_BYTES
from audit.note import Note, NoteRefused, parse_note

MAXIMUM_REQUEST_BYTES: Final = 64 * 1024
MAXIMUM_PROOF: Final = 63
SIZE_TYPE: Final = "text/x.tlog.size"
_OLD: Final = re.compile(rb"old (0|[1-9][0-9]{0,18})")
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A checkpoint, and the proof that it grows from the log of `old` entries."""

    old: int
    proof: tuple[bytes, ...]
    checkpoint: Checkpoint
    note: Note


def write_request(old: int, proof: Sequence[bytes], note: Note) -> bytes:
    """Return the body that asks for a cosignature of `note`."""
    lines = [f"old {old}", *(base64.b64encode(one).decode() for one in proof), ""]
    return "".join(f"{line}\n" for line in lines).encode() + str(note).encode()


def read_request(body: bytes) -> AddCheckpoint:
    """Return what `body` asks for; raises NoteRefused for anything else than one whole request."""
    if len(body) > MAXIMUM_REQUEST_BYTES:
        raise NoteRefused("malformed", f"a request is at most {MAXIMUM_REQUEST_BYTES} bytes long")
    head, empty, rest = body.partition(b"\n\n")
    first, *hashes = head.split(b"\n")
    old = _OLD.fullmatch(first)
    if not empty or old is None or int(old[1]) > MAXIMUM_SIZE:
        raise NoteRefused("malformed", "a request begins with `old`, a size, and ends its proof")
    if len(hashes) > MAXIMUM_PROOF:
        raise NoteRefused("malformed", f"a proof has at most {MAXIMUM_PROOF} hashes")
    note = parse_note(rest)
    return AddCheckpoint(int(old[1]), tuple(map(_hash, hashes)), parse_checkpoint(note.text), note)


def read_size(body: bytes) -> int | None:
    """Return the size that a witness says it has seen; None if that is not what `body` is."""
    found = _SIZE.fullmatch(body)
    return None if found is None or int(found[1]) > MAXIMUM_SIZE else int(found[1])


def _hash(line: bytes) -> bytes:
    try:
        found = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteRefused("malformed", "a proof's hash is not base64") from error
    if len(found) != HASH_BYTES or base64.b64encode(found) != line:
        raise NoteRefused("malformed", "a proof's hash is 32 bytes in canonical base64")
    return found
