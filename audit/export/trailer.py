"""What the trailer of an export proves: whose checkpoint it is, and how old keys lead to it. Pure.

    1. the checkpoint's root is the one that the lines came to           (audit/export/verify.py)
    2. each `keys` entry is in the log of the checkpoint, each `steps` checkpoint begins it
    3. a checkpoint that a trusted key signed makes the keys trusted that entries below its size
       introduce; again, until nothing is added                             (audit/key_history.py)
    4. a trusted key, which no entry among these gives up before, has signed the checkpoint. That
       one is not left out is nobody's proof: an export shows of the log what it shows

What is proved in 2 holds under whatever the checkpoint says. It is a trusted key's own checkpoint,
and its being the beginning of this log, that makes 3 sound: nobody else could have put the entry
there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.key_history import LOG_KEY_KIND, KeyHistory
from audit.merkle import HASH_BYTES, leaf_hash, verify_consistency, verify_inclusion
from audit.note import Note, NoteRefused, Verified, VerifierKey, parse_note, verify_note
from meshca.errors import EvidenceBroken

MAXIMUM_STEPS: Final = 10_000
_MAXIMUM_HASHES: Final = 128

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint that is trusted: which keys have signed it, and which witnesses.

    `is_given` says that a key of those given has signed; otherwise they vouch for one that has.
    `retired` are those given of which the log says that they were given up: whoever has found one
    can make another log, up to where that is said.
    """

    checkpoint: Checkpoint
    by: tuple[VerifierKey, ...]
    is_given: bool
    witnesses: tuple[Verified, ...]
    retired: tuple[VerifierKey, ...] = ()


def parse_end(document: Json) -> tuple[Checkpoint, Note]:
    """Return the trailer's checkpoint, not verified; raises NoteRefused."""
    note = parse_note(_text(document["checkpoint"]))
    return parse_checkpoint(note.text), note


def verify_end(
    document: Json,
    keys: Sequence[VerifierKey],
    witnesses: Sequence[VerifierKey],
    heard: Iterable[bytes] = (),
) -> Signed:
    """Return who has signed the trailer's checkpoint, whose root is known to be right.

    `heard` are bodies of `log_key` entries that the export itself showed. Every one of `witnesses`
    must have signed. Raises NoteRefused or EvidenceBroken.
    """
    checkpoint, note = parse_end(document)
    if len(document["keys"]) > MAXIMUM_STEPS or len(document["steps"]) > MAXIMUM_STEPS:
        raise EvidenceBroken(checkpoint.size, f"more than {MAXIMUM_STEPS} keys or steps")
    bodies = dict(_key_entry(each, checkpoint) for each in document["keys"])
    bodies |= {orjson.loads(body)["index"]: body for body in heard}
    history = KeyHistory.of(checkpoint.origin, (bodies[index] for index in sorted(bodies)))
    steps = [_step(each, checkpoint) for each in document["steps"]]
    trusted = history.trusted(keys, [*steps, (checkpoint, note)])
    by = tuple(history.signers(checkpoint, note, trusted))
    cosigned = tuple(verified for w in witnesses for verified in _cosigned(note, w))
    retired = tuple(key for key in keys if key in history.given_up)
    return Signed(checkpoint, by, bool(set(by) & set(keys)), cosigned, retired)


def _cosigned(note: Note, witness: VerifierKey) -> tuple[Verified, ...]:
    try:
        return verify_note(note, [witness])
    except NoteRefused as error:
        raise NoteRefused(
            error.reason, f"the witness {witness.name} has not signed the checkpoint: {error}"
        ) from error


def _key_entry(document: Json, checkpoint: Checkpoint) -> tuple[int, bytes]:
    """Return the index and the body of a `log_key` entry."""
    index, body = document["index"], _text(document["entry"]).encode()
    proof = hashes(document["inclusion"])
    if type(index) is not int or not verify_inclusion(
        index, checkpoint.size, leaf_hash(body), proof, checkpoint.root
    ):
        raise EvidenceBroken(0, "an entry about a key is not in the log of the checkpoint")
    entry = orjson.loads(body)
    if entry["kind"] != LOG_KEY_KIND or entry["index"] != index:
        raise EvidenceBroken(index, f"entry {index} is about no key")
    return index, body


def _step(document: Json, checkpoint: Checkpoint) -> tuple[Checkpoint, Note]:
    note = parse_note(_text(document["checkpoint"]))
    before = parse_checkpoint(note.text)
    proof = hashes(document["consistency"])
    if before.origin != checkpoint.origin or not verify_consistency(
        before.size, checkpoint.size, before.root, checkpoint.root, proof
    ):
        raise EvidenceBroken(
            before.size,
            f"the log that was signed for with {before.size} entries does not begin this one",
        )
    return before, note


def hashes(document: object) -> list[bytes]:
    """Return the hashes that `document` lists in hex; raises ValueError."""
    if not isinstance(document, list) or len(document) > _MAXIMUM_HASHES:
        raise ValueError("not a list of hashes")
    return [hash_of(one) for one in document]


def hash_of(value: object) -> bytes:
    """Return the hash that `value` spells in hex, in its one spelling; raises ValueError."""
    made = bytes.fromhex(_text(value))
    if len(made) != HASH_BYTES or made.hex() != value:
        raise ValueError(f"a hash is {HASH_BYTES} bytes in lower-case hex")
    return made


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("not a text")
    return value
