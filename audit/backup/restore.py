"""Restoring a backup into the empty log of a database, in one transaction.

    1  the log is empty, and no server holds a name: the caller has made sure of the second
    2  the checkpoint in the backup is signed by a key that the operator brought
    3  every entry is inserted, its leaf hashed, and the tree made from the leaves
    4  the tree's root is the checkpoint's; what has no body a redaction names; the end was there;
       the key of 2 had not been given up before, by the word of the entries
    5  the holds and the keys are those that the entries say; the other checkpoints in the backup
       are signed by keys of the log, and the tree agrees with each
    6  no checkpoint that the operator or this machine knows is larger, unless that is accepted and
       the log goes on under another name
    7  what was made of a log that was here before goes: search index, places of sinks and anchors
    8  an entry says who restored what; all of it is committed, or nothing

Nothing of a backup is trusted before 4: what it says of redacted entries is compared with what
their redactions say, and its rows go into three tables only. When a checkpoint was kept, which only
decides how long it stays, is the backup's word.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import islice
from typing import IO, Any, Final

import sqlalchemy as sa

from audit.backup.companions import check_checkpoints, insert_companion
from audit.backup.form import (
    ENTRY,
    HEADER,
    REDACTED,
    ROW,
    BackupRefused,
    Header,
    canonical,
    parse_header,
    parsed,
    unpack,
)
from audit.backup.told import TABLES, Told
from audit.checkpoint import Checkpoint, open_checkpoint
from audit.entry import Entry
from audit.log import EntrySink, microseconds
from audit.merkle import Frontier, root_at
from audit.note import Note, NoteRefused, VerifierKey
from audit.retention.columns import check_columns
from audit.retention.coverage import REDACTION, Coverage
from audit.retention.partitions import make_month
from audit.sinks.store import audit_sinks
from audit.tree import StoredTree, audit_entries, read_frontier, write_growth
from meshca.database import bulk_insert
from meshca.errors import EvidenceBroken, StoreUnavailable

_PAGE: Final = 2_000
_FIRST_SCHEMA: Final = 1
_LATEST: Final = 250_000_000_000_000_000  # in the year 9892

_Row = tuple[int, int, str, bytes, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On which terms a backup is taken: whose signature, and what is known of the log.

    `origin` is the log's name, and `signs_as` the one it goes on under. `known` are checkpoints
    from elsewhere, verified. `accept_older` takes a backup that ends before one of them: what came
    after it is lost, that is on record, and the log goes on under another name, because under the
    old one it would contradict what it signed.
    """

    keys: Sequence[VerifierKey]
    origin: str
    signs_as: str
    known: Sequence[Checkpoint] = ()
    accept_older: bool = False
    actor: str
    reason: str
    now: datetime


@dataclass(frozen=True, slots=True)
class Restored:
    """What is in force: the log up to `checkpoint`; `lost` entries are known to have come after."""

    checkpoint: Checkpoint
    redacted: int
    lost: int


def restore(engine: sa.Engine, file: IO[bytes], terms: Terms) -> Restored:
    """Restore the backup in `file`, and return what is in force then.

    Raises BackupRefused, and StoreUnavailable; the database is then as it was.
    """
    writes = engine.connect().execution_options(meshca_writes=True)
    try:
        with writes as connection, connection.begin():
            return _Restoration(connection, terms).run(file)
    except EvidenceBroken as error:
        raise BackupRefused("changed", f"the backup is not as it was written: {error}") from error
    except sa.exc.SQLAlchemyError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise StoreUnavailable(f"the database does not take the backup: {cause}") from error


@dataclass(slots=True)
class _Restoration:
    connection: sa.Connection
    terms: Terms
    _frontier: Frontier = field(default_factory=Frontier)
    _coverage: Coverage = field(default_factory=Coverage)
    _told: Told = field(default_factory=Told)
    _claimed: list[bytes] = field(default_factory=list)
    _months: set[str] = field(default_factory=set)

    def run(self, file: IO[bytes]) -> Restored:
        """Go through the steps in the order of the module's text."""
        EntrySink().append(self.connection, [])  # nobody else appends from here on
        _check_empty(self.connection)
        lines = unpack(file)
        header, checkpoint, note = self._opened(lines)
        self._insert_all(lines, header.size)
        if self._frontier.size != header.size:
            raise BackupRefused("changed", "the backup has fewer entries than its checkpoint")
        if self._frontier.root() != checkpoint.root:
            raise BackupRefused("changed", "the entries do not lead to the backup's checkpoint")
        self._coverage.check()
        check_columns(self.connection, self._coverage.redactions)
        self._check_signers(checkpoint, note)
        self._insert_told()
        check_checkpoints(self.connection, header.size, self._told, self.terms.keys)
        lost = self._compared(checkpoint)
        write_growth(self.connection, self._frontier, [])
        _forget_before(self.connection)
        redacted = sum(last - first + 1 for first, last in self._coverage.blank)
        EntrySink().append(self.connection, [self._entry(header, checkpoint, lost)])
        return Restored(checkpoint, redacted, lost)

    def _opened(self, lines: Iterator[tuple[bytes, bytes]]) -> tuple[Header, Checkpoint, Note]:
        letter, content = next(lines, (b"", b""))
        if letter != HEADER:
            raise BackupRefused("malformed", "this is no backup of an audit log")
        header = parse_header(parsed(content))
        if header.origin != self.terms.origin:
            message = f"the backup is of the log {header.origin!r}, not {self.terms.origin!r}"
            raise BackupRefused("other_log", message)
        try:
            checkpoint, note = open_checkpoint(
                header.checkpoint, self.terms.keys, origin=self.terms.origin
            )
        except NoteRefused as error:
            message = f"the backup's checkpoint is not signed by the keys given: {error}"
            raise BackupRefused("not_signed", message) from error
        if checkpoint.size != header.size:
            raise BackupRefused("changed", "the backup's checkpoint is of another size")
        return header, checkpoint, note

    def _insert_all(self, lines: Iterator[tuple[bytes, bytes]], size: int) -> None:
        """Insert what the lines hold, to the last one."""
        while page := list(islice(lines, _PAGE)):
            rows: list[_Row] = []
            for letter, content in page:
                if letter in (ENTRY, REDACTED):
                    index = self._frontier.size + len(rows)
                    rows.append(_row(letter, content, index))
                elif letter == ROW:
                    self._take_row(parsed(content))
                else:
                    raise BackupRefused("malformed", "a line of the backup is of no known kind")
            if self._frontier.size + len(rows) > size:
                raise BackupRefused("changed", "the backup has more entries than its checkpoint")
            self._insert(rows)
            if len(self._claimed) > self._told.heard:
                raise BackupRefused("changed", "the backup has holds or keys of no entry")

    def _take_row(self, document: dict[str, Any]) -> None:
        """Insert a row; one that entries speak of is kept until all of them were heard."""
        if document.get("table") not in TABLES:
            insert_companion(self.connection, document)
            return
        self._claimed.append(canonical(document))

    def _insert_told(self) -> None:
        """Insert the holds and keys that the entries say; raises BackupRefused for other ones."""
        told = list(self._told.rows())
        if sorted(map(canonical, told)) != sorted(self._claimed):
            message = "the holds or keys in the backup are not those that its entries say"
            raise BackupRefused("changed", message)
        for document in told:
            insert_companion(self.connection, document)

    def _check_signers(self, checkpoint: Checkpoint, note: Note) -> None:
        """Raise BackupRefused if whoever signed was no longer a key of the log by then."""
        try:
            self._told.history(checkpoint.origin).signers(checkpoint, note, self.terms.keys)
        except NoteRefused as error:
            message = "the key that signed the backup's checkpoint had been given up before"
            raise BackupRefused("not_signed", message) from error

    def _insert(self, rows: list[_Row]) -> None:
        for index, _, kind, _, text in rows:
            body = None if text is None else text.encode()
            if body is None or kind == REDACTION:
                self._coverage.heed(index, kind, body)
            if body is not None:
                self._told.heed(index, body)
        for time in {row[1] for row in rows}:
            make_month(self.connection, time, self._months)
        self._frontier, nodes = self._frontier.extended(row[3] for row in rows)
        bulk_insert(self.connection, audit_entries, rows)
        write_growth(self.connection, self._frontier, nodes)

    def _compared(self, checkpoint: Checkpoint) -> int:
        """Return how many entries are known to have followed; raises BackupRefused."""
        tree = StoredTree(self.connection)
        for known in self.terms.known:
            if known.size <= checkpoint.size and root_at(known.size, tree.hash_at) != known.root:
                message = f"the log was another one when it had {known.size} entries"
                raise BackupRefused("other_log", message)
        newest = max((known.size for known in self.terms.known), default=0)
        if newest > checkpoint.size and not self.terms.accept_older:
            message = (
                f"the backup ends at entry {checkpoint.size}, and the log is known to have had"
                f" {newest}: find a newer backup, or lose the rest with --accept-older"
            )
            raise BackupRefused("older", message)
        if newest > checkpoint.size and self.terms.signs_as == self.terms.origin:
            message = (
                f"{self.terms.origin} has signed more than the backup has, and never signs another"
                " history: set audit.origin to another name, and give this one with --origin"
            )
            raise BackupRefused("same_name", message)
        return max(0, newest - checkpoint.size)

    def _entry(self, header: Header, checkpoint: Checkpoint, lost: int) -> Entry:
        terms = self.terms
        return Entry(
            time=terms.now,
            kind="restore",
            outcome="done",
            actor=terms.actor,
            reason=terms.reason,
            details={
                "origin": terms.origin,
                "size": checkpoint.size,
                "root": checkpoint.root.hex(),
                "made_at": header.made_at,
                "lost": lost,
                "accepted_older": terms.accept_older,
            },
        )


def _check_empty(connection: sa.Connection) -> None:
    is_empty = read_frontier(connection).size == 0
    tables = ("audit_entries", "audit_nodes", "audit_checkpoints", "audit_log_keys", "audit_holds")
    for table in tables:
        if not is_empty or connection.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 1").first():  # noqa: S608  # our own names
            message = f"the database has a log already ({table}): restore into an empty one"
            raise BackupRefused("not_empty", message)


def _forget_before(connection: sa.Connection) -> None:
    """Drop what was made of a log that is gone, so that nothing takes it for the restored one's.

    Sinks begin again with the first entry: what they had delivered was perhaps of another log.
    """
    for table in ("audit_postings", "audit_segments", "audit_anchors"):
        connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608  # our own names
    connection.execute(sa.update(audit_sinks).values(next=0))


def _row(letter: bytes, content: bytes, index: int) -> _Row:
    """Return the row of the entry that must be `index`; raises BackupRefused."""
    document = parsed(content)
    try:
        if letter == REDACTED:
            leaf = bytes.fromhex(document["leaf_hash"])
            if len(leaf) != sha256().digest_size:
                raise ValueError("not a hash")
            return (
                _checked(document["index"], index),
                document["time"],
                document["kind"],
                leaf,
                None,
            )
        says = _index_of(document)
        time = _time(microseconds(datetime.fromisoformat(document["time"])))
        leaf = sha256(b"\x00" + content).digest()
        return _checked(says, index), time, str(document["kind"]), leaf, content.decode()
    except (KeyError, TypeError, ValueError) as error:
        raise BackupRefused("malformed", f"the backup has no entry {index} in its place") from error


def _time(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < _LATEST:
        raise ValueError("not a time")
    return value


def _index_of(document: dict[str, Any]) -> Any:
    if document["v"] == _FIRST_SCHEMA:
        return document["sequence"] - 1
    return document["index"]


def _checked(says: Any, index: int) -> int:
    if says != index:
        raise ValueError(f"says that it is {says}")
    return index


def known_checkpoints(
    notes: Iterable[str], keys: Sequence[VerifierKey], origin: str
) -> list[Checkpoint]:
    """Return what `notes` of other places say of the log; raises BackupRefused for one not ours."""
    found = []
    for note in notes:
        try:
            found.append(open_checkpoint(note, keys, origin=origin)[0])
        except NoteRefused as error:
            raise BackupRefused("not_signed", f"a checkpoint to compare with: {error}") from error
    return found
