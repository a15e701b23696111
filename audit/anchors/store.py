"""What is known of each anchor, and the cosignatures of witnesses, in the database.

A cosignature is kept with its checkpoint: in the note's own text, so that whoever reads the
checkpoint has it (audit/checkpoints.py keeps one checkpoint a span for each set of signers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from audit.checkpoints import Kept, audit_checkpoints, checkpoints, time_of
from audit.log import microseconds
from audit.note import Signature, parse_note
from meshca.database import Sink, metadata, reading

_PAGE: Final = 256

audit_anchors = sa.Table(
    "audit_anchors",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("confirmed_at", sa.BigInteger, nullable=True),  # microseconds since the epoch
    sa.Column("failures", sa.BigInteger, nullable=False),
    sa.Column("failing_since", sa.BigInteger, nullable=True),
    sa.Column("problem", sa.Text, nullable=False),
    sa.Column("is_contradicted", sa.Boolean, nullable=False),
)


@dataclass(frozen=True, slots=True)
class AnchorState:
    """How an anchor stands: it holds the log of `size` entries, confirmed at `confirmed_at`.

    `failures` are those in a row, the first at `failing_since`; `problem` says what the last was.
    `is_contradicted`: what it holds is not what our log says.
    """

    name: str
    size: int = 0
    confirmed_at: datetime | None = None
    failures: int = 0
    failing_since: datetime | None = None
    problem: str = ""
    is_contradicted: bool = False


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint of ours that witnesses have cosigned."""

    kept: Kept
    signatures: tuple[Signature, ...]


class AnchorStateSink:
    """Writes how anchors stand."""

    def write(self, connection: sa.Connection, records: Sequence[AnchorState]) -> None:
        """Replace one row a record, in their order."""
        for state in records:
            row = audit_anchors.c.name == state.name
            connection.execute(sa.delete(audit_anchors).where(row))
            connection.execute(sa.insert(audit_anchors), _row(state))


class CosignedSink:
    """Adds cosignatures to checkpoints."""

    def write(self, connection: sa.Connection, records: Sequence[Cosigned]) -> None:
        """Update one row a record; one that was dropped meanwhile comes back."""
        c = audit_checkpoints.c
        for cosigned in records:
            kept = cosigned.kept
            row = sa.and_(c.origin == kept.origin, c.size == kept.size)
            held = connection.execute(sa.select(c.note).where(row)).scalar_one_or_none()
            note = parse_note(kept.note if held is None else held)
            note = note.signed_also(cosigned.signatures)
            values: dict[str, object] = {
                "note": str(note),
                "keys": ",".join(sorted(_signers(note.signatures))),
            }
            if held is not None:
                connection.execute(sa.update(audit_checkpoints).where(row).values(values))
                continue
            values |= {"origin": kept.origin, "size": kept.size, "time": microseconds(kept.time)}
            connection.execute(sa.insert(audit_checkpoints), values)


ANCHOR_SINKS: Final[Mapping[type, Sink]] = {
    AnchorState: AnchorStateSink(),
    Cosigned: CosignedSink(),
}


def read_anchor_states(engine: sa.Engine) -> dict[str, AnchorState]:
    """Return how each anchor stands that there ever was, by name; raises StoreUnavailable."""
    with reading(engine) as connection:
        rows = connection.execute(sa.select(audit_anchors)).all()
    return {
        row.name: AnchorState(
            row.name,
            row.size,
            None if row.confirmed_at is None else time_of(row.confirmed_at),
            row.failures,
            None if row.failing_since is None else time_of(row.failing_since),
            row.problem,
            row.is_contradicted,
        )
        for row in rows
    }


def newest_cosigned(engine: sa.Engine, origin: str, *, at_least: int = 0) -> Kept | None:
    """Return the largest checkpoint of `origin` that a witness has cosigned.

    None if there is none of `at_least` entries. Raises StoreUnavailable. Signatures are not
    verified.
    """
    below: int | None = None
    while page := checkpoints(engine, origin, limit=_PAGE, below=below):
        for kept in page:
            if kept.size < at_least:
                return None
            if any(one.name != origin for one in kept.parsed()[1].signatures):
                return kept
        below = page[-1].size
    return None


def _signers(signatures: Sequence[Signature]) -> set[str]:
    return {signature.key_id.hex() for signature in signatures}


def _row(state: AnchorState) -> dict[str, object]:
    return {
        "name": state.name,
        "size": state.size,
        "confirmed_at": _time(state.confirmed_at),
        "failures": state.failures,
        "failing_since": _time(state.failing_since),
        "problem": state.problem,
        "is_contradicted": state.is_contradicted,
    }


def _time(time: datetime | None) -> int | None:
    return None if time is None else microseconds(time)
