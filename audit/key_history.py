"""Which keys count for which checkpoints, by the log's own word. Pure.

A key is introduced by an entry of kind `log_key`, and given up by another. Who begins with some
trusted keys comes to trust another one once a checkpoint of a trusted key covers the entry that
introduces it; a checkpoint covers all entries before its end, so keys older than the first trusted
one come with it. A key that was given up counts for nothing that was signed afterwards, in a log
that says that it was. A key of another name than the log's counts for nothing.

What this cannot do: see a retirement that it is not told of. Whoever finds a key that was given up
can sign another log, which ends or forks before that entry. Only a key that came later, a witness,
or a checkpoint that was kept elsewhere shows that there are two.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from audit.checkpoint import Checkpoint
from audit.note import Note, NoteRefused, VerifierKey, verify_note

LOG_KEY_KIND: Final = "log_key"
_NEVER: Final = 2**63


@dataclass(slots=True)
class KeyHistory:
    """The keys that the entries of kind `log_key` name; `origin` is the log's.

    `introduced` and `given_up` are indexes of entries.
    """

    origin: str
    introduced: dict[VerifierKey, int] = field(default_factory=dict)
    given_up: dict[VerifierKey, int] = field(default_factory=dict)

    @classmethod
    def of(cls, origin: str, bodies: Iterable[bytes]) -> "KeyHistory":
        """Return the history that entries say; those that are of another kind or log are skipped.

        Raises NoteRefused for an entry that names no key.
        """
        history = cls(origin)
        for body in bodies:
            history.hear(orjson.loads(body))
        return history

    def hear(self, document: dict[str, Any]) -> None:
        """Take an entry's body into account, in the order of the log; raises NoteRefused."""
        details = document.get("details")
        if document.get("kind") != LOG_KEY_KIND or not isinstance(details, dict):
            return
        if details.get("origin") != self.origin:
            return
        key, index = VerifierKey.parse(str(details.get("verifier"))), int(document["index"])
        if details.get("stage") == "active":
            self.introduced.setdefault(key, index)
        elif details.get("stage") == "retired":
            self.given_up.setdefault(key, index)

    def signers(
        self, checkpoint: Checkpoint, note: Note, trusted: Iterable[VerifierKey]
    ) -> list[VerifierKey]:
        """Return which of `trusted` signed `checkpoint` while they counted; raises NoteRefused."""
        counting = [
            key
            for key in trusted
            if key.name == self.origin and checkpoint.size <= self.given_up.get(key, _NEVER)
        ]
        return [verified.key for verified in verify_note(note, counting)]

    def trusted(
        self, first: Iterable[VerifierKey], covering: Iterable[tuple[Checkpoint, Note]]
    ) -> frozenset[VerifierKey]:
        """Return the keys that follow from `first`, given checkpoints that the log agrees with."""
        known, left = set(first), sorted(covering, key=lambda pair: -pair[0].size)
        while True:
            size = self._covered(known, left)
            more = {key for key, index in self.introduced.items() if index < size} - known
            if not more:
                return frozenset(known)
            known |= more

    def _covered(self, known: set[VerifierKey], left: list[tuple[Checkpoint, Note]]) -> int:
        """Return the size of the largest checkpoint that a known key signed."""
        for checkpoint, note in left:
            try:
                self.signers(checkpoint, note, known)
            except NoteRefused:
                continue
            return checkpoint.size
        return 0
