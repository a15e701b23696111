"""Holding a checkpoint that an anchor has against our log: pure questions, each with one answer."""

from audit.anchors.anchor import Published
from audit.log import Log
from audit.log_keys import read_log_keys
from audit.note import NoteRefused, VerifierKey, verify_note
from meshca.errors import EvidenceBroken


def check_kept(held: Published | None, size: int, anchor: str) -> None:
    """Raise EvidenceBroken if an anchor that had a checkpoint of `size` entries has less now."""
    has = 0 if held is None else held.checkpoint.size
    if has < size:
        now = "nothing" if held is None else f"{has} entries at most"
        raise EvidenceBroken(
            size,
            f"{anchor} held a checkpoint of {size} entries, and now holds {now}: it was emptied, "
            "cut off or replaced",
        )


def check_held(log: Log, held: Published, anchor: str) -> None:
    """Raise EvidenceBroken unless our log begins with what `held` says, by a key of ours.

    It reads the database: call it off the event loop. Raises StoreUnavailable.
    """
    checkpoint, size = held.checkpoint, log.head().size
    if checkpoint.size > size:
        raise EvidenceBroken(
            size,
            f"{anchor} holds a checkpoint of {checkpoint.size} entries; the log has {size}: it was "
            "cut off or rolled back",
        )
    if log.root_at(checkpoint.size) != checkpoint.root:
        raise EvidenceBroken(
            0,
            f"{anchor} holds a checkpoint of {checkpoint.size} entries that are not those of the "
            "log: it was rewritten, or there are two of it",
        )
    keys = [VerifierKey.parse(key.verifier) for key in read_log_keys(log.engine, checkpoint.origin)]
    try:
        verify_note(held.note, keys)
    except NoteRefused as error:
        raise EvidenceBroken(
            checkpoint.size, f"{anchor} holds a checkpoint that no key of ours signed: {error}"
        ) from error
