"""Signing checkpoints: at most one a second, by one replica, none that contradicts what it knows.

    every replica, each second:
    1. the log must begin with what was signed last: as this machine remembers it (a file in
       `data_dir`), and as the database does
    2. remember on this machine, on the disk, what the database has that is newer
    who holds the name `audit-signer`, when there is more than was signed for:
    3. sign with every key that this replica holds; remember that too
    4. keep it in the database, where everybody finds it

A log that does not begin with what was signed was rolled back or rewritten. Whoever sees that signs
nothing and logs an error, and its `meshca_audit_log_inconsistent` is 1 until somebody looks
(docs/runbooks/audit-log.md). Issuing and recording go on: this part is no door.

What no running replica remembers, a rolled-back database has lost with it: a new replica that gets
the name then signs what contradicts it. The anchors tell (audit/anchors/), and whoever does
remember as soon as it runs again.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from audit.checkpoints import Kept, Thinning, newest_checkpoint
from audit.files import make_private_directory, read_private, replace_file
from audit.log import Head, Log
from audit.log_keys import LogKeys, read_log_keys
from audit.merkle import verify_consistency
from audit.note import Note, NoteRefused, SigningKey, VerifierKey, parse_note
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import EvidenceBroken, MeshcaError
from meshca.logs import get_logger
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks

SIGNER: Final = "audit-signer"
SECONDS_BETWEEN: Final = 1.0
SECONDS_AFTER_FAILURE: Final = 5.0
THIN_EVERY: Final = timedelta(minutes=10)

log = get_logger("audit")


@dataclass(frozen=True, slots=True)
class LastSigned:
    """The newest checkpoint that this machine signed, or saw signed, in the file `path`."""

    path: Path

    def read(self, origin: str) -> Checkpoint | None:
        """Return it; None if nothing is remembered here of `origin`.

        Raises StoreUnavailable, and EvidenceBroken if the file is no checkpoint.
        """
        for note in self.notes(origin):
            return parse_checkpoint(parse_note(note).text)
        return None

    def notes(self, origin: str) -> list[str]:
        """Return the signed note of `read`, or nothing; raises as `read` does."""
        try:
            note = parse_note(read_private(self.path))
            checkpoint = parse_checkpoint(note.text)
        except FileNotFoundError:
            return []
        except NoteRefused as error:
            raise EvidenceBroken(0, f"{self.path} is no checkpoint: {error}") from error
        return [str(note)] if checkpoint.origin == origin else []

    def write(self, note: Note) -> None:
        """Remember `note`, on the disk; raises StoreUnavailable."""
        make_private_directory(self.path.parent)
        replace_file(self.path, str(note).encode())


@dataclass(slots=True, kw_only=True)
class CheckpointSigner:
    """Signs what the log of `origin` commits to, or watches who does; `run` is its loop."""

    origin: str
    log: Log
    keys: LogKeys
    last: LastSigned
    locks: NameLocks
    writer: GroupWriter
    clock: Clock
    metrics: Metrics
    _thinned_at: datetime | None = None
    _trouble: str = ""

    async def run(self) -> None:
        """Look, second by second, until cancelled."""
        while True:
            is_well = await self.step()
            await asyncio.sleep(SECONDS_BETWEEN if is_well else SECONDS_AFTER_FAILURE)

    async def step(self) -> bool:
        """Examine the log; sign if it is our turn and it has grown; return whether all is well."""
        try:
            keys = await self.keys.prepare()
            is_our_turn = await asyncio.to_thread(self.locks.hold, SIGNER)
            head = await asyncio.to_thread(self.examine)
            self.metrics.audit_log_inconsistent.set(0)
            if is_our_turn and head is not None:
                await self._sign(head, keys)
        except EvidenceBroken as error:
            self.metrics.audit_log_inconsistent.set(1)
            self._fail("refused", str(error))
            return False
        except MeshcaError as error:
            self._fail("failed", str(error))
            return False
        self._trouble = ""
        return True

    async def _sign(self, head: Head, keys: list[SigningKey]) -> None:
        text = str(Checkpoint(self.origin, head.size, head.root))
        note = Note(text, tuple(key.sign(text) for key in keys))
        await asyncio.to_thread(self.last.write, note)
        now = self.clock.now()
        await self.writer.submit(Kept(self.origin, head.size, now, str(note)), *self._thinning(now))
        self.metrics.audit_checkpoints.labels("signed").inc()

    def examine(self) -> Head | None:
        """Return the head to sign, None if it was signed; remember the newest that was.

        Raises EvidenceBroken when the log does not begin with what was signed before.
        """
        mine = self.last.read(self.origin)
        kept = newest_checkpoint(self.log.engine, self.origin)
        head = self.log.head()  # read last: another replica may be signing
        announced = None if kept is None else self._trusted(kept)
        known = [before for before in {mine, announced} if before is not None]
        for before in known:
            check_growth(self.log, before, head)
        largest = max((before.size for before in known), default=0)
        if kept is not None and (mine is None or mine.size < kept.size):
            self.last.write(parse_note(kept.note))
        is_kept = kept is not None and kept.size == head.size
        return None if head.size == largest and (is_kept or not head.size) else head

    def _trusted(self, kept: Kept) -> Checkpoint:
        """Return what another replica, or we, kept; raises EvidenceBroken for what none signed."""
        rows = read_log_keys(self.log.engine, self.origin)
        keys = [VerifierKey.parse(row.verifier) for row in rows]
        try:
            return open_checkpoint(kept.note, keys, origin=self.origin)[0]
        except NoteRefused as error:
            raise EvidenceBroken(
                kept.size, f"the newest kept checkpoint ({kept.size} entries) is not ours: {error}"
            ) from error

    def _thinning(self, now: datetime) -> tuple[Thinning, ...]:
        if self._thinned_at is not None and now - self._thinned_at < THIN_EVERY:
            return ()
        self._thinned_at = now
        return (Thinning(self.origin, now),)

    def _fail(self, outcome: str, error: str) -> None:
        self.metrics.audit_checkpoints.labels(outcome).inc()
        if error != self._trouble:  # once, not each second
            log.error("checkpoint_not_signed", outcome=outcome, error=error)
        self._trouble = error


def check_growth(stored: Log, before: Checkpoint, head: Head) -> None:
    """Raise EvidenceBroken unless the log with `head` begins with what `before` says."""
    if before.size > head.size:
        raise EvidenceBroken(
            head.size,
            f"the log has {head.size} entries, and a checkpoint of {before.size} was signed: it "
            "was cut off or rolled back",
        )
    proof = stored.consistency_proof(before.size, head.size)
    if not verify_consistency(before.size, head.size, before.root, head.root, proof):
        raise EvidenceBroken(
            0,
            f"the first {before.size} entries are not those that a checkpoint was signed for: the "
            "log was rewritten",
        )
