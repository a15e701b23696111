"""Proof files: one entry, its place in the tree, and the signed checkpoint (C2SP tlog-proof).

    c2sp.org/tlog-proof@v1
    extra <base64 of the entry's body>
    index <where it is in the log>
    <base64 hashes, from the leaf's sibling upwards>

    <the checkpoint>

Pure. The body counts only because its hash is the leaf that the proof leads from. An entry that was
redacted has no body: its file proves the leaf hash, and says so in `extra` by `leaf-hash `.
"""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from audit.checkpoint import Checkpoint, open_checkpoint
from audit.key_history import KeyHistory
from audit.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from audit.note import VerifierKey
from meshca.errors import EvidenceBroken, RequestRefused

MAXIMUM_BYTES: Final = 1024 * 1024
MAXIMUM_HASHES: Final = 63
_FIRST_LINE: Final = "c2sp.org/tlog-proof@v1"
_REDACTED: Final = b"leaf-hash "


@dataclass(frozen=True, slots=True)
class EntryProof:
    """What a proof file holds, unverified; `body` is None for a redacted entry."""

    index: int
    leaf: bytes
    body: bytes | None
    hashes: tuple[bytes, ...]
    checkpoint: str

    def __str__(self) -> str:
        extra = _REDACTED + self.leaf if self.body is None else self.body
        lines = [_FIRST_LINE, f"extra {_encoded(extra)}", f"index {self.index}"]
        lines += map(_encoded, self.hashes)
        return "".join(f"{line}\n" for line in lines) + "\n" + self.checkpoint


def parse_proof(data: bytes) -> EntryProof:
    """Return what the proof file `data` says; raises RequestRefused for anything else."""
    if len(data) > MAXIMUM_BYTES:
        raise RequestRefused("malformed", f"a proof is at most {MAXIMUM_BYTES} bytes long")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise RequestRefused("malformed", "a proof is UTF-8") from error
    head, _, checkpoint = text.partition("\n\n")
    lines = head.split("\n")
    if len(lines) < 3 or lines[0] != _FIRST_LINE or len(lines) > 3 + MAXIMUM_HASHES:
        raise RequestRefused("malformed", f"a proof begins with {_FIRST_LINE}, extra and index")
    extra = _decoded(_after("extra ", lines[1]))
    index = _after("index ", lines[2])
    if not re.fullmatch(r"0|[1-9][0-9]{0,18}", index, re.ASCII):
        raise RequestRefused("malformed", "a proof's index is a decimal number")
    hashes = tuple(map(_decoded, lines[3:]))
    body = None if extra.startswith(_REDACTED) else extra
    leaf = leaf_hash(body) if body is not None else extra.removeprefix(_REDACTED)
    if any(len(each) != HASH_BYTES for each in (leaf, *hashes)):
        raise RequestRefused("malformed", f"a proof's hashes have {HASH_BYTES} bytes")
    return EntryProof(int(index), leaf, body, hashes, checkpoint)


@dataclass(frozen=True, slots=True)
class Proven:
    """The checkpoint that an entry is under, and the keys, of those given, that signed it."""

    checkpoint: Checkpoint
    by: tuple[VerifierKey, ...]


def verify_proof(proof: EntryProof, keys: Iterable[VerifierKey], *, origin: str = "") -> Proven:
    """Return under which checkpoint the entry is, and which of `keys` are seen to have signed it.

    That a key was retired before shows only if the entry itself says so. Raises NoteRefused for the
    checkpoint, EvidenceBroken for an entry that is not under it.
    """
    keys = tuple(keys)
    checkpoint, note = open_checkpoint(proof.checkpoint, keys, origin=origin)
    if not verify_inclusion(
        proof.index, checkpoint.size, proof.leaf, proof.hashes, checkpoint.root
    ):
        raise EvidenceBroken(
            proof.index, f"the entry is not number {proof.index} of the log of the checkpoint"
        )
    history = _history(proof, checkpoint.origin)
    return Proven(checkpoint, tuple(history.signers(checkpoint, note, keys)))


def _history(proof: EntryProof, origin: str) -> KeyHistory:
    """Return what the entry says of keys of the log."""
    if proof.body is None:
        return KeyHistory(origin)
    try:
        return KeyHistory.of(origin, [proof.body])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceBroken(proof.index, "the entry is none, or names no key") from error


def _after(name: str, line: str) -> str:
    if not line.startswith(name):
        raise RequestRefused("malformed", f"a proof's line begins with {name!r}")
    return line.removeprefix(name)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestRefused("malformed", "a line of a proof is not base64") from error
