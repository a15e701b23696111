"""What an anchor is: a place that others keep, which holds what our log once said.

Whoever rewrites the log, or cuts it, must rewrite every anchor too. So an anchor is only worth what
keeps it from whoever administers our database: another machine, another team, a lock on objects.

Rules. Anchors never change or delete what they hold. What one holds is compared with our log each
time before something is added (audit/anchors/keeper.py); a difference is EvidenceBroken, told and
never mended. So is one that has less than it had. What cannot be reached raises Unavailable, and is
tried again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.note import Note, Signature, parse_note


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint of our log with its note, as it was signed."""

    checkpoint: Checkpoint
    note: Note

    @classmethod
    def parse(cls, data: bytes | str) -> "Published":
        """Return what `data` says, its signatures unverified; raises NoteRefused."""
        note = parse_note(data)
        return cls(parse_checkpoint(note.text), note)

    def __bytes__(self) -> bytes:
        return str(self.note).encode()


class Anchor(Protocol):
    """One place; every method is bounded in time by itself."""

    @property
    def name(self) -> str:
        """Return what it is called in the configuration's words, without credentials."""
        ...

    @property
    def is_readable(self) -> bool:
        """Return whether `newest` can say what it holds."""
        ...

    async def newest(self) -> Published | None:
        """Return the newest checkpoint that it holds, None if it has none or cannot be read.

        Raises Unavailable, and EvidenceBroken for what is not of our log.
        """
        ...

    async def publish(self, published: Published) -> Sequence[Signature]:
        """Add a checkpoint, and return the cosignatures that it gives for it.

        Raises Unavailable, and EvidenceBroken when it has seen what our log denies.
        """
        ...
