"""A witness of other logs (C2SP tlog-witness): it cosigns a log that only ever grew.

    1. the request reads as one, and its log is one that we were told of
    2. a key that we were told of has signed the checkpoint
    3. it is held against what we cosigned last for this log: a checkpoint of that size is that
       checkpoint; of another size it must grow from there, by the proof
    4. what we cosigned last is replaced by comparison, with an entry of our log, in a transaction
    5. only then, and once this machine remembers it too, it is cosigned, with the time

The same checkpoint again passes by step 4 only: this machine remembers before each cosignature.

Two checkpoints of one size, both signed by the log, are a split view: proof that it lies to
somebody. So is one whose own proof leads to it from another beginning than we cosigned
(`inconsistent`). Both are refused, recorded with the checkpoint as it was sent, logged as errors,
and counted for the alert `MeshcaWitnessedLogContradicts` (docs/runbooks/audit-anchors.md). A proof
that leads nowhere (`bad_proof`) is refused, recorded and counted, and no alarm: checkpoints are
public, and anybody can send one with any proof.

Anybody may ask. Nothing is read or written for who did not bring a signature of a known log, but a
counted refusal. A log is taken forward at most once a second, and the same checkpoint is cosigned
again at most once a second: apart, so that whoever repeats a checkpoint holds up no other.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import sqlalchemy as sa

from audit.entry import Entry
from audit.merkle import first_root, verify_consistency
from audit.note import NoteRefused, SigningKey, VerifierKey, verify_note
from audit.refusals import RefusalRecorder
from audit.witness.memory import WitnessMemory
from audit.witness.request import SIZE_TYPE, AddCheckpoint, read_request
from audit.witness.store import Advance, Seen, read_seen
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.errors import Conflict, EvidenceBroken, MeshcaError
from meshca.logs import get_logger
from meshca.metrics import Metrics

SECONDS_BETWEEN: Final = 1.0
MAXIMUM_WAITING: Final = 32
_MAXIMUM_RECORDED: Final = 4_096
_RECORDED: Final = (
    "unknown_log",
    "not_signed",
    "malformed",
    "stale",
    "split_view",
    "inconsistent",
    "bad_proof",
)
TEXT: Final = "text/plain; charset=utf-8"
_DOES_NOT_HOLD: Final = "the proof does not hold\n"

log = get_logger("audit")


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered over HTTP, and why (a code for metrics and the audit log).

    `seen` is the checkpoint that was contradicted.
    """

    status: int
    outcome: str
    body: str = ""
    kind: str = TEXT
    seen: str = ""


@dataclass(slots=True, kw_only=True)
class Witness:
    """The witness that signs with `key`; `logs` are the keys of each log by its origin."""

    key: SigningKey
    logs: Mapping[str, Sequence[VerifierKey]]
    engine: sa.Engine
    memory: WitnessMemory
    writer: GroupWriter
    refusals: RefusalRecorder
    clock: Clock
    metrics: Metrics
    _advanced_at: dict[str, float] = field(default_factory=dict)
    _cosigned_at: dict[str, float] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _waiting: int = 0

    async def add_checkpoint(self, body: bytes) -> Answer:
        """Return what add-checkpoint answers to `body`; never raises what is foreseen."""
        try:
            asked = read_request(body)
        except NoteRefused as error:
            return self._counted(Answer(HTTPStatus.BAD_REQUEST, "malformed", f"{error}\n"))
        answer = self._refused_unread(asked)
        if answer is None:
            answer = await self._in_turn(asked)
        if answer.outcome in _RECORDED:
            self.refusals.record(self._entry(asked, answer.outcome, "refused", answer.seen))
        return self._counted(answer)

    def _refused_unread(self, asked: AddCheckpoint) -> Answer | None:
        """Return the answer to who is not known, or asks for what cannot be; None goes on."""
        keys = self.logs.get(asked.checkpoint.origin)
        if keys is None:
            return Answer(HTTPStatus.NOT_FOUND, "unknown_log", "no log that is witnessed here\n")
        try:
            verify_note(asked.note, keys)
        except NoteRefused:
            return Answer(HTTPStatus.FORBIDDEN, "not_signed", "signed by no key of this log\n")
        if asked.old > asked.checkpoint.size:
            text = "the old size is larger than the checkpoint\n"
            return Answer(HTTPStatus.BAD_REQUEST, "malformed", text)
        return None

    async def _in_turn(self, asked: AddCheckpoint) -> Answer:
        if self._waiting >= MAXIMUM_WAITING:
            return Answer(HTTPStatus.TOO_MANY_REQUESTS, "too_often")
        self._waiting += 1
        try:
            async with self._turn:
                return await self._compare(asked)
        except EvidenceBroken as error:
            log.error("witness_forgets", origin=asked.checkpoint.origin, error=str(error))
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "forgotten", "out of order\n")
        except MeshcaError as error:
            log.warning("not_witnessed", origin=asked.checkpoint.origin, error=str(error))
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", "retry\n")
        finally:
            self._waiting -= 1

    async def _compare(self, asked: AddCheckpoint) -> Answer:
        new = asked.checkpoint
        seen = await asyncio.to_thread(self._seen, new.origin)
        if new.size == seen.size and new.root != seen.root:
            return self._contradiction(asked, seen, "split_view" if seen.note else "inconsistent")
        if asked.old != seen.size:
            return _stale(seen.size)
        if not verify_consistency(seen.size, new.size, seen.root, new.root, asked.proof):
            return self._unproven(asked, seen)
        if new.size == seen.size and seen.note:
            return await self._again(asked, seen)
        return await self._advance(asked, seen)

    async def _again(self, asked: AddCheckpoint, seen: Seen) -> Answer:
        """Cosign what we cosigned last, at another time: there is nothing to record."""
        if self._is_too_soon(self._cosigned_at, asked.checkpoint.origin):
            return Answer(HTTPStatus.TOO_MANY_REQUESTS, "too_often")
        return await self._cosigned(asked, seen)

    async def _advance(self, asked: AddCheckpoint, seen: Seen) -> Answer:
        new, now = asked.checkpoint, self.clock.monotonic()
        if self._is_too_soon(self._advanced_at, new.origin):
            return Answer(HTTPStatus.TOO_MANY_REQUESTS, "too_often")
        after = Seen(new.size, new.root, str(asked.note))
        entry = self._entry(asked, "cosigned", "done")
        try:
            await self.writer.submit(Advance(new.origin, seen, after, self.clock.now()), entry)
        except Conflict:
            current = await asyncio.to_thread(self._seen, new.origin)
            return _stale(current.size)
        self._advanced_at[new.origin] = now
        return await self._cosigned(asked, after)

    def _is_too_soon(self, last: Mapping[str, float], origin: str) -> bool:
        return origin in last and self.clock.monotonic() - last[origin] < SECONDS_BETWEEN

    def _seen(self, origin: str) -> Seen:
        """Return what was cosigned last; raises EvidenceBroken if the database has forgotten it."""
        seen = read_seen(self.engine, origin)
        self.memory.check(origin, seen)
        return seen

    async def _cosigned(self, asked: AddCheckpoint, seen: Seen) -> Answer:
        """Return the cosignature of `seen`, which this machine remembers first."""
        origin = asked.checkpoint.origin
        await asyncio.to_thread(self.memory.remember, origin, seen)
        self._cosigned_at[origin] = self.clock.monotonic()
        time = int(self.clock.now().timestamp())
        signature = self.key.sign(asked.note.text, time_seconds=time)
        return Answer(HTTPStatus.OK, "cosigned", str(signature))

    def _unproven(self, asked: AddCheckpoint, seen: Seen) -> Answer:
        """Return the answer to a proof that does not hold: of another log, or of nothing."""
        new = asked.checkpoint
        first = first_root(seen.size, new.size, new.root, asked.proof)
        if first is not None and first != seen.root:
            return self._contradiction(asked, seen, "inconsistent")
        return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "bad_proof", _DOES_NOT_HOLD)

    def _contradiction(self, asked: AddCheckpoint, seen: Seen, outcome: str) -> Answer:
        log.error(
            "witnessed_log_contradicts_itself",
            origin=asked.checkpoint.origin,
            problem=outcome,
            seen=seen.note,
            shown=str(asked.note),
        )
        if outcome == "split_view":
            return Answer(HTTPStatus.CONFLICT, outcome, f"{seen.size}\n", SIZE_TYPE, seen.note)
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return Answer(status, outcome, _DOES_NOT_HOLD, TEXT, seen.note)

    def _entry(self, asked: AddCheckpoint, reason: str, outcome: str, seen: str = "") -> Entry:
        new = asked.checkpoint
        return Entry(
            time=self.clock.now(),
            kind="witness",
            outcome=outcome,
            actor=new.origin,
            reason=reason,
            details={
                "size": new.size,
                "old": asked.old,
                "note": str(asked.note)[:_MAXIMUM_RECORDED],
                "seen": seen[:_MAXIMUM_RECORDED],
            },
        )

    def _counted(self, answer: Answer) -> Answer:
        self.metrics.anchors.witnessed.labels(answer.outcome).inc()
        return answer


def _stale(size: int) -> Answer:
    return Answer(HTTPStatus.CONFLICT, "stale", f"{size}\n", SIZE_TYPE)
