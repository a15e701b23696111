"""The log's own keys: who may sign checkpoints, and how one key follows another.

    active    signs
    retiring  was replaced: signs beside the new key for the overlap, so that who knows only the
              old key still follows, and so that the old key vouches for the new one
    retired   signs no more; its private key is deleted

Each replica has a key of its own, none of them the CA's. Every step is an entry of kind `log_key`,
written in the transaction of the row: a key is introduced by an entry that checkpoints of a key
known before cover (audit/key_history.py). A key whose file is gone with its disk is `retired` by
the replica that had it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, Literal

import sqlalchemy as sa

from audit.checkpoint import parse_checkpoint
from audit.checkpoints import newest_checkpoint, time_of
from audit.entry import Entry
from audit.key_files import KeyFiles
from audit.key_history import LOG_KEY_KIND
from audit.log import microseconds
from audit.note import Note, NoteRefused, SigningKey
from meshca.clock import Clock
from meshca.database import GroupWriter, Sink, metadata, reading
from meshca.logs import get_logger

Stage = Literal["active", "retiring", "retired"]

log = get_logger("audit")

audit_log_keys = sa.Table(
    "audit_log_keys",
    metadata,
    sa.Column("verifier", sa.Text, primary_key=True),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("replica", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("introduced_at", sa.BigInteger, nullable=False),  # microseconds since the epoch
    sa.Column("retires_at", sa.BigInteger, nullable=True),
)


@dataclass(frozen=True, slots=True)
class LogKey:
    """A key of the log; `verifier` is written as C2SP signed-note says."""

    verifier: str
    origin: str
    replica: str
    stage: Stage
    introduced_at: datetime
    retires_at: datetime | None = None

    @property
    def key_id(self) -> str:
        """Return what names it in signature lines, in hex."""
        return self.verifier.split("+")[1]


class LogKeySink:
    """Writes where each key stands."""

    def write(self, connection: sa.Connection, records: Sequence[LogKey]) -> None:
        """Insert or update one row each."""
        statement = sa.text(
            "INSERT INTO audit_log_keys"
            " (verifier, origin, replica, stage, introduced_at, retires_at) VALUES"
            " (:verifier, :origin, :replica, :stage, :introduced_at, :retires_at)"
            " ON CONFLICT (verifier) DO UPDATE SET stage = excluded.stage,"
            " replica = excluded.replica, retires_at = excluded.retires_at"
        )
        for key in records:
            connection.execute(statement, _row(key))


def read_log_keys(engine: sa.Engine, origin: str) -> list[LogKey]:
    """Return every key that the log `origin` had, the oldest first; raises StoreUnavailable."""
    c = audit_log_keys.c
    query = sa.select(audit_log_keys).where(c.origin == origin)
    with reading(engine) as connection:
        rows = connection.execute(query.order_by(c.introduced_at, c.verifier))
        return [_log_key(row) for row in rows]


@dataclass(slots=True, kw_only=True)
class LogKeys:
    """The keys of this replica; both coroutines may be called at any time, and wait in turn."""

    files: KeyFiles
    engine: sa.Engine
    writer: GroupWriter
    clock: Clock
    replica: str
    overlap: timedelta
    _held: dict[str, SigningKey] | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def prepare(self) -> list[SigningKey]:
        """Return the keys that sign now, one of them active; makes, introduces and retires keys.

        Raises Unavailable when a key cannot be had or its entry not be written.
        """
        async with self._turn:
            held, rows = await self._look()
            await self._retire_some(held, rows)
            for name in held.keys() - rows.keys():  # the process ended before it was introduced
                rows[name] = await self._introduce(held[name], "introduced")
            if not any(row.stage == "active" for row in rows.values()):
                await self._create(held, "introduced")
            return list(held.values())

    async def sign(self, text: str) -> Note:
        """Return `text`, which is no checkpoint, signed with the keys of this replica.

        Raises Unavailable as `prepare` does, NoteRefused for a checkpoint, which only the signer
        signs, and for a text that cannot be a note's.
        """
        if _is_checkpoint(text):
            raise NoteRefused("malformed", "checkpoints are signed by the signer alone")
        return Note(text, tuple(key.sign(text) for key in await self.prepare()))

    async def rotate(self, *, actor: str) -> LogKey:
        """Let a new key follow the active one, which signs on for the overlap; return the new one.

        Raises Unavailable; the old key is then still the active one.
        """
        async with self._turn:
            held, rows = await self._look()
            until = self._now() + self.overlap
            replaced = tuple(
                replace(row, stage="retiring", retires_at=until)
                for row in rows.values()
                if row.stage == "active"
            )
            return await self._create(held, "rotated", actor=actor, replaced=replaced)

    async def _look(self) -> tuple[dict[str, SigningKey], dict[str, LogKey]]:
        """Return the keys on our disk, and where the keys of this replica stand."""
        if self._held is None:
            keys = await asyncio.to_thread(self.files.load)
            self._held = {str(key.verifier): key for key in keys}
        known = await asyncio.to_thread(read_log_keys, self.engine, self.files.origin)
        mine = {
            k.verifier: k for k in known if k.replica == self.replica or k.verifier in self._held
        }
        return self._held, mine

    async def _retire_some(self, held: dict[str, SigningKey], rows: dict[str, LogKey]) -> None:
        """Retire the keys whose overlap is over, or that are lost; delete what is retired."""
        for name, row in rows.items():
            if row.stage != "retired" and name not in held:
                rows[name] = await self._retire(row, "lost")
            elif row.stage == "retiring" and await asyncio.to_thread(self._is_over, row, rows):
                rows[name] = await self._retire(row, "retired")
        for name in held.keys() & {name for name, row in rows.items() if row.stage == "retired"}:
            await asyncio.to_thread(self.files.remove, held.pop(name))

    def _is_over(self, key: LogKey, rows: dict[str, LogKey]) -> bool:
        """Return whether `key` has signed for its overlap, and for the keys that follow it."""
        if key.retires_at is None or key.retires_at > self._now():
            return False
        followed = [row.introduced_at for row in rows.values() if row.stage == "active"]
        kept = newest_checkpoint(self.engine, self.files.origin)
        return bool(followed) and kept is not None and kept.time >= max(followed)

    async def _create(
        self,
        held: dict[str, SigningKey],
        reason: str,
        *,
        actor: str = "meshca",
        replaced: tuple[LogKey, ...] = (),
    ) -> LogKey:
        key = await asyncio.to_thread(self.files.create)
        try:
            row = await self._introduce(key, reason, actor=actor, replaced=replaced)
        except BaseException:  # cancelled too: a key that nobody was told of is not to lie about
            self.files.remove(key)
            raise
        held[row.verifier] = key
        log.info("log_key_introduced", key=row.key_id, reason=reason)
        return row

    async def _introduce(
        self,
        key: SigningKey,
        reason: str,
        *,
        actor: str = "meshca",
        replaced: tuple[LogKey, ...] = (),
    ) -> LogKey:
        verifier = str(key.verifier)
        row = LogKey(verifier, self.files.origin, self.replica, "active", self._now())
        entries = [
            self._entry(row, reason, actor),
            *(self._entry(r, reason, actor) for r in replaced),
        ]
        await self.writer.submit(row, *replaced, *entries)
        return row

    async def _retire(self, row: LogKey, reason: str) -> LogKey:
        retired = replace(row, stage="retired")
        await self.writer.submit(retired, self._entry(retired, reason, "meshca"))
        log.info("log_key_retired", key=row.key_id, reason=reason)
        return retired

    def _entry(self, key: LogKey, reason: str, actor: str) -> Entry:
        details = {
            "verifier": key.verifier,
            "origin": key.origin,
            "replica": key.replica,
            "stage": key.stage,
            "retires_at": None if key.retires_at is None else key.retires_at.isoformat(),
        }
        return Entry(
            time=self._now(),
            kind=LOG_KEY_KIND,
            outcome="done",
            actor=actor,
            reason=reason,
            details=details,
        )

    def _now(self) -> datetime:
        return self.clock.now()


def _is_checkpoint(text: str) -> bool:
    try:
        parse_checkpoint(text)
    except NoteRefused:
        return False
    return True


LOG_KEY_SINKS: Final[Mapping[type, Sink]] = MappingProxyType({LogKey: LogKeySink()})


def _row(key: LogKey) -> dict[str, Any]:
    return {
        "verifier": key.verifier,
        "origin": key.origin,
        "replica": key.replica,
        "stage": key.stage,
        "introduced_at": microseconds(key.introduced_at),
        "retires_at": None if key.retires_at is None else microseconds(key.retires_at),
    }


def _log_key(row: sa.Row[Any]) -> LogKey:
    retires_at = None if row.retires_at is None else time_of(row.retires_at)
    return LogKey(
        row.verifier, row.origin, row.replica, row.stage, time_of(row.introduced_at), retires_at
    )
