"""Examining the log: what is stored against itself, against what was signed, and against anchors.

    1. every entry against its leaf, every leaf against the tree, the tree against the head
       (audit/verify.py)
    2. every kept checkpoint, and every anchor given, is signed by a key of the log
    3. none of them speaks of more entries than there are     the log was cut off
    4. each has the root that the log had at its size         it was rewritten or reordered, or
                                                              others were shown another log

Anchors are checkpoints that were kept where whoever can change the database could not change them:
without one, somebody with the database and a log key can make a new log that agrees with itself.

Keys. Given some, only these and those that follow from them are believed (audit/key_history.py).
Given none, the keys that the log itself names are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from audit.checkpoint import Checkpoint, parse_checkpoint
from audit.checkpoints import Kept, checkpoints
from audit.key_history import LOG_KEY_KIND, KeyHistory
from audit.log import Head
from audit.merkle import EMPTY_ROOT
from audit.note import Note, NoteRefused, VerifierKey, parse_note
from audit.verify import Verification
from meshca.errors import EvidenceBroken


@dataclass(frozen=True, slots=True)
class Witness:
    """A checkpoint to hold the log to; `where` says whose it is, for messages."""

    where: str
    checkpoint: Checkpoint
    note: Note


@dataclass(frozen=True, slots=True)
class Examined:
    """A log that is as it was written: its head, and what says so.

    `signed`: how many entries the newest checkpoint covers. `keys`: the keys that were believed;
    `redacted`: how many entries have a leaf and no body.
    """

    head: Head
    signed: int
    checkpoints: int
    anchors: int
    redacted: int
    keys: tuple[VerifierKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What to hold the log `origin` to: `anchors` are signed notes, `keys` who is believed.

    Without `keys` those that the log names are, and `own`, the keys of this machine. `memory` is
    what this machine signed last.
    """

    engine: sa.Engine
    origin: str
    keys: Sequence[VerifierKey] = ()
    own: Sequence[VerifierKey] = ()
    anchors: Sequence[str] = ()
    memory: Sequence[str] = ()
    progress: Callable[[int], None] | None = None
    workers: int = 1

    def run(self) -> Examined:
        """Examine the whole log; off the event loop.

        Raises EvidenceBroken for the first entry that is not as it was written, or as was signed;
        NoteRefused for an anchor that is no checkpoint of this log.
        """
        anchors = [self._anchor(text) for text in self.anchors]
        kept = [self._kept(one) for one in checkpoints(self.engine, self.origin)]
        remembered = [self._anchor(text, "what this machine signed last") for text in self.memory]
        witnesses = sorted((*kept, *remembered, *anchors), key=lambda w: w.checkpoint.size)
        sizes = sorted({witness.checkpoint.size for witness in witnesses})
        run = Verification(
            self.engine, self.progress, stops=sizes, watch=LOG_KEY_KIND, workers=self.workers
        )
        head = run.run()
        run.roots[0] = EMPTY_ROOT
        history = self._history(run.watched)
        agreeing = [w for w in witnesses if run.roots.get(w.checkpoint.size) == w.checkpoint.root]
        first = self.keys or (*history.introduced, *self.own)
        keys = history.trusted(first, ((w.checkpoint, w.note) for w in agreeing))
        self._hold(head, witnesses, run.roots, history, keys)
        return Examined(
            head,
            signed=max((w.checkpoint.size for w in witnesses), default=0),
            checkpoints=len(kept),
            anchors=len(anchors),
            redacted=sum(map(len, run.redacted)),
            keys=tuple(sorted(keys, key=str)),
        )

    def _history(self, bodies: Iterable[bytes]) -> KeyHistory:
        try:
            return KeyHistory.of(self.origin, bodies)
        except (NoteRefused, ValueError, KeyError, TypeError) as error:
            raise EvidenceBroken(0, f"an entry of kind log_key names no key: {error}") from error

    def _anchor(self, text: str, where: str = "an anchor") -> Witness:
        note = parse_note(text)
        checkpoint = parse_checkpoint(note.text)
        if checkpoint.origin != self.origin:
            raise NoteRefused("malformed", f"{where} is a checkpoint of another log")
        return Witness(where, checkpoint, note)

    def _kept(self, kept: Kept) -> Witness:
        try:
            witness = self._anchor(kept.note, "a kept checkpoint")
        except NoteRefused as error:
            raise EvidenceBroken(
                kept.size, f"the kept checkpoint of {kept.size} entries is none: {error}"
            ) from error
        if witness.checkpoint.size != kept.size:
            raise EvidenceBroken(kept.size, f"the kept checkpoint of {kept.size} says another size")
        return witness

    def _hold(
        self,
        head: Head,
        witnesses: Iterable[Witness],
        roots: dict[int, bytes],
        history: KeyHistory,
        keys: Iterable[VerifierKey],
    ) -> None:
        """Raise EvidenceBroken for the smallest of `witnesses` that the log does not agree with."""
        agreed = 0
        for witness in witnesses:
            said = witness.checkpoint
            about = f"{witness.where} speaks of {said.size}"
            if said.size > head.size:
                text = f"the log was cut off: it has {head.size} entries; {about}"
                raise EvidenceBroken(head.size, text)
            try:
                history.signers(said, witness.note, keys)
            except NoteRefused as error:
                text = f"{witness.where} of {said.size} entries is not signed by the log: {error}"
                raise EvidenceBroken(agreed, text) from error
            if roots[said.size] != said.root:
                text = (
                    f"the log was rewritten from entry {agreed} on or after it, or others were "
                    f"shown another log: {about} with another root"
                )
                raise EvidenceBroken(agreed, text)
            agreed = said.size


def thinned(notes: Sequence[str], most: int) -> Iterator[str]:
    """Yield at most `most` of `notes`: half of them the last, the others evenly from before."""
    if len(notes) <= most:
        yield from notes
        return
    newest = most // 2
    before = len(notes) - newest
    step = before / (most - newest)
    yield from (notes[int(number * step)] for number in range(most - newest))
    yield from notes[before:]
