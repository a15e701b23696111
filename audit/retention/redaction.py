"""Redacting a batch of entries: their bodies go, and one entry says which, in one transaction.

Rules. What is due was found before without a lock; it is looked at again here, under the lock that
placing a hold takes, so that no hold comes too late. A certificate that has not expired keeps its
issuance. What nothing may redact is left out without a word: it comes again with the next look.
What the columns say is believed of no entry: each must be as it was written, in all of them, or
nothing of its batch goes. Otherwise redacting would do away with the traces of who changed it.
On SQLite the bytes of the bodies are overwritten in the file, not only let go.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final

import orjson
import sqlalchemy as sa

from audit.entry import Entry
from audit.index.building import SMALL
from audit.index.tables import mark_for_rebuild
from audit.log import EntrySink, lock_log
from audit.retention.coverage import REDACTION, Range, columns_digest, ranges_of
from audit.retention.holds import Hold, holds_in, lock_holds
from audit.tree import audit_entries
from audit.verify_block import check_entry

BATCH: Final = 500
"""Entries a transaction: on SQLite nobody else writes meanwhile."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may be due; `body` is None where it was not needed."""

    index: int
    time_us: int
    kind: str
    body: str | None = None


@dataclass(frozen=True, slots=True)
class Redact:
    """Entries that are due at `now` by `cutoffs`, the times (µs) before which kinds expire."""

    now: datetime
    candidates: tuple[Candidate, ...]
    cutoffs: Mapping[str, int]
    rules: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sorted:
    """Candidates, by what becomes of them: `held` by a legal hold, `live` certificates."""

    due: list[Candidate] = field(default_factory=list)
    held: list[Candidate] = field(default_factory=list)
    live: list[Candidate] = field(default_factory=list)


def sort_out(candidates: Iterable[Candidate], holds: Sequence[Hold], now: datetime) -> Sorted:
    """Return what becomes of `candidates`; those without a body, or with none of ours, are due."""
    found = Sorted()
    for one in candidates:
        try:
            _fate(one, found, holds, now).append(one)
        except (ValueError, KeyError, TypeError, AttributeError):  # it is refused, and named, later
            found.due.append(one)
    return found


def _fate(one: Candidate, found: Sorted, holds: Sequence[Hold], now: datetime) -> list[Candidate]:
    if one.body is None:
        return found.due
    if any(hold.scope.holds(one.time_us, one.kind, one.body) for hold in holds):
        return found.held
    if one.kind == "issuance" and _is_live(one.body, now):
        return found.live
    return found.due


def _is_live(body: str, now: datetime) -> bool:
    """Return whether the certificate that the issuance speaks of has not expired."""
    not_after = orjson.loads(body)["details"].get("not_after")
    return isinstance(not_after, int | float) and now.timestamp() < not_after


@dataclass(frozen=True, slots=True)
class RedactionSink:
    """Writes redactions; `entries` appends what they are."""

    entries: EntrySink = field(default_factory=EntrySink)
    first: ClassVar = staticmethod(lock_log)

    def write(self, connection: sa.Connection, records: Sequence[Redact]) -> None:
        """Redact what of `records` may be redacted now, with one entry for each record.

        Raises EvidenceBroken, naming the first, if one that is due is not as it was written.
        """
        lock_log(connection)
        lock_holds(connection)
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        holds = holds_in(connection)
        for record in records:
            due = sort_out(_still_there(connection, record), holds, record.now).due
            if due:
                self._redact(connection, record, due)

    def _redact(self, connection: sa.Connection, record: Redact, due: list[Candidate]) -> None:
        indexes = [one.index for one in due]
        blank = sa.update(audit_entries).where(*_among(due)).values(body=None)
        connection.execute(blank)
        for first, last in _spans(indexes):
            mark_for_rebuild(connection, first, last - first + 1)
        kinds: dict[str, int] = {}
        for one in due:
            kinds[one.kind] = kinds.get(one.kind, 0) + 1
        entry = Entry(
            time=record.now,
            kind=REDACTION,
            outcome="done",
            actor="meshca",
            reason="retention",
            details={
                "ranges": [list(pair) for pair in ranges_of(indexes)],
                "kinds": dict(sorted(kinds.items())),
                "rules": {kind: record.rules[kind] for kind in sorted(kinds)},
                "columns_sha256": columns_digest((o.index, o.time_us, o.kind) for o in due),
            },
        )
        self.entries.append(connection, [entry])


def _still_there(connection: sa.Connection, record: Redact) -> list[Candidate]:
    """Return the candidates that have a body now, and are due by the rules.

    Raises EvidenceBroken for one whose body is not what was hashed, or says other than its columns.
    """
    c = audit_entries.c
    query = sa.select(audit_entries).where(*_among(record.candidates), c.body.is_not(None))
    found = []
    for row in connection.execute(query.order_by(c.leaf_index)):
        if row.time < record.cutoffs.get(row.kind, 0):
            check_entry(row.leaf_index, row.time, row.kind, row.leaf_hash, row.body)
            found.append(Candidate(row.leaf_index, row.time, row.kind, row.body))
    return found


def _among(candidates: Sequence[Candidate]) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition for `candidates`; with their times PostgreSQL skips partitions."""
    c = audit_entries.c
    times = [one.time_us for one in candidates]
    return (
        c.leaf_index.in_([one.index for one in candidates]),
        c.time.between(min(times), max(times)),
    )


def _spans(indexes: Sequence[int]) -> list[Range]:
    """Return few ranges that hold `indexes`, which are in order: what the index marks is coarse."""
    spans: list[Range] = []
    for index in indexes:
        if spans and index - spans[-1][1] <= SMALL:
            spans[-1] = (spans[-1][0], index)
        else:
            spans.append((index, index))
    return spans
