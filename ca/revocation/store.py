"""The tables of revocations and bans: what was decided, by whom and why, and what it hit.

A decision is written first, open, with what it selects; then what it hit, in batches; then it is
closed. So one that was interrupted is known, and is finished at the next start: with what had been
issued when it was decided, and not with what was issued since. Each change has a
revision, the number of its kind in the table `changes`, given in the transaction of the change: who
knows everything up to a revision reads what came after. Rows are never deleted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import orjson
import sqlalchemy as sa

from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.store import certificates
from meshca.database import metadata, reading
from meshca.errors import NotFound

REVOCATIONS_CHANGED: Final = "revocations"

decisions = sa.Table(
    "revocation_decisions",
    metadata,
    sa.Column("decision", sa.Text, primary_key=True),
    sa.Column("decided_at_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("reason", sa.Integer, nullable=False),
    sa.Column("selector", sa.Text, nullable=False),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("is_open", sa.Boolean, nullable=False),
    sa.Column("last_certificate", sa.BigInteger, nullable=True),
)
revocations = sa.Table(
    "revocations",
    metadata,
    sa.Column("serial", sa.Text, primary_key=True),
    sa.Column("decision", sa.Text, nullable=False, index=True),
    sa.Column("authority_id", sa.Text, nullable=False),
    sa.Column("spiffe_id", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.Text, nullable=False),
    sa.Column("not_after", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Integer, nullable=False),
    sa.Column("revoked_at", sa.BigInteger, nullable=False),
    sa.Column("released_at", sa.BigInteger, nullable=True),
    sa.Column("revision", sa.BigInteger, nullable=False, index=True),
)
bans = sa.Table(
    "bans",
    metadata,
    sa.Column("ban", sa.Text, primary_key=True),
    sa.Column("selector", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("since", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger, nullable=True),
    sa.Column("lifted_at", sa.BigInteger, nullable=True),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Somebody decided to revoke what `selector` selects; `decision` is its name.

    `is_open`: not everything that it hits is written down yet. `count` is how many it hit.
    `last_certificate`: it hits certificates up to this one of the inventory (`id` in ca/store.py);
    None, as for a decision with a ban: those that are valid from before it was made.
    """

    decision: str
    at: datetime
    actor: str
    why: str
    reason: Reason
    selector: Selector
    count: int = 0
    is_open: bool = True
    last_certificate: int | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """One certificate that is revoked; `fingerprint` is empty for one whose DER is not on record.

    `released_at` is when a hold was ended; `revision` is 0 before it is written.
    """

    serial: str
    decision: str
    authority_id: str
    spiffe_id: str
    fingerprint: str
    not_after: datetime
    reason: Reason
    revoked_at: datetime
    released_at: datetime | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Ban:
    """Whoever `selector` selects gets no certificate, from `since` until `until` or for good."""

    ban: str
    selector: Selector
    why: str
    actor: str
    since: datetime
    until: datetime | None = None
    lifted_at: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Return whether it is in force."""
        return self.lifted_at is None and (self.until is None or now < self.until)


@dataclass(frozen=True, slots=True)
class Revoked:
    """These certificates are revoked, by one decision."""

    batch: Sequence[Revocation]


@dataclass(frozen=True, slots=True)
class Released:
    """A hold is ended; `at` is when."""

    serial: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Lifted:
    """A ban is ended; `at` is when."""

    ban: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Closed:
    """Everything that a decision hit is written down."""

    decision: str


@dataclass(frozen=True, slots=True)
class Revocations:
    """Reads of these tables, and of the inventory by selector."""

    engine: sa.Engine

    def last_certificate(self) -> int:
        """Return the `id` of the newest certificate of the inventory; 0 when there is none."""
        with reading(self.engine) as connection:
            newest = connection.execute(sa.select(sa.func.max(certificates.c.id))).scalar_one()
        return int(newest or 0)

    def select(
        self, selector: Selector, *, now: datetime, reason: Reason, decided: Decision | None = None
    ) -> Iterator[Revocation]:
        """Yield what `selector` would hit now: unexpired, not revoked yet; with no decision.

        What is on hold can be revoked for any other `reason`. `decided` leaves out what was issued
        after that decision, and what it hit before or somebody released since.
        """
        query = _selection(selector, now, reason)
        if decided is not None:
            query = query.where(_issued_before(decided), ~_settled(decided))
        options = {"yield_per": _AT_ONCE}
        with (
            reading(self.engine) as connection,
            connection.execute(query, execution_options=options) as rows,
        ):
            for row in rows:
                der = row.certificate
                fingerprint = "" if der is None else sha256(der).hexdigest()
                if selector.fingerprint and fingerprint != selector.fingerprint:
                    continue
                yield Revocation(
                    serial=row.serial,
                    decision="",
                    authority_id=row.authority_id,
                    spiffe_id=row.spiffe_id,
                    fingerprint=fingerprint,
                    not_after=instant(row.not_after),
                    reason=reason,
                    revoked_at=now,
                )

    def after(self, revision: int, *, now: datetime) -> list[Revocation]:
        """Return what changed after `revision`, of certificates that have not ended long ago."""
        c = revocations.c
        query = (
            sa.select(revocations)
            .where(c.revision > revision, c.not_after > seconds(now - timedelta(hours=1)))
            .order_by(c.revision, c.serial)
        )
        with reading(self.engine) as connection:
            return [read_revocation(row) for row in connection.execute(query)]

    def get(self, serial: str) -> Revocation:
        """Return what is known of a revoked certificate; raises NotFound."""
        wanted = serial.replace(":", "").lower().lstrip("0")
        query = sa.select(revocations).where(revocations.c.serial == wanted)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"serial {wanted} is not revoked")
        return read_revocation(row)

    def decision(self, name: str) -> Decision:
        """Return one decision; raises NotFound."""
        query = sa.select(decisions).where(decisions.c.decision == name)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"there is no decision {name[:64]}")
        return read_decision(row)

    def open_decisions(self) -> list[Decision]:
        """Return the decisions that were interrupted, the oldest first."""
        query = sa.select(decisions).where(decisions.c.is_open).order_by(decisions.c.decided_at_us)
        with reading(self.engine) as connection:
            return [read_decision(row) for row in connection.execute(query)]

    def bans(self, now: datetime | None = None) -> list[Ban]:
        """Return the bans that hold at `now`, or every ban there ever was; the newest first."""
        query = sa.select(bans).order_by(bans.c.since.desc(), bans.c.ban)
        with reading(self.engine) as connection:
            found = [_ban(row) for row in connection.execute(query)]
        return found if now is None else [ban for ban in found if ban.holds(now)]


def seconds(at: datetime) -> int:
    """Return whole seconds since the epoch."""
    return int(at.timestamp())


def microseconds(at: datetime) -> int:
    """Return whole microseconds since the epoch."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def instant(stored: int) -> datetime:
    """Return the time of whole seconds since the epoch."""
    return datetime.fromtimestamp(stored, UTC)


def instant_us(stored: int) -> datetime:
    """Return the time of whole microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=stored)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 500


def _selection(selector: Selector, now: datetime, reason: Reason) -> sa.Select[Any]:
    c, r = certificates.c, revocations.c
    standing = sa.select(r.serial).where(r.serial == c.serial, r.released_at.is_(None))
    if reason is not Reason.certificateHold:
        standing = standing.where(r.reason != Reason.certificateHold.value)
    query = (
        sa.select(c.serial, c.authority_id, c.spiffe_id, c.not_after, c.certificate)
        .where(c.not_after > seconds(now), ~standing.exists())
        .order_by(c.id)
    )
    said = selector.given()
    if not said:
        query = query.where(sa.false())  # nothing said is nothing meant
    for name, value in said.items():
        if name != "fingerprint":  # not a column: it is compared row by row
            query = query.where(c[name] == value)
    return query


def _settled(decided: Decision) -> sa.ColumnElement[bool]:
    r = revocations.c
    since = sa.or_(r.decision == decided.decision, r.released_at >= seconds(decided.at))
    return sa.select(r.serial).where(r.serial == certificates.c.serial, since).exists()


def _issued_before(decided: Decision) -> sa.ColumnElement[bool]:
    if decided.last_certificate is not None:
        return certificates.c.id <= decided.last_certificate
    return certificates.c.not_before <= seconds(decided.at)


def read_revocation(row: sa.Row[Any]) -> Revocation:
    """Return the revocation in a row of its table."""
    r = row._mapping
    return Revocation(
        r["serial"],
        r["decision"],
        r["authority_id"],
        r["spiffe_id"],
        r["fingerprint"],
        instant(r["not_after"]),
        Reason(r["reason"]),
        instant(r["revoked_at"]),
        None if r["released_at"] is None else instant(r["released_at"]),
        r["revision"],
    )


def read_decision(row: sa.Row[Any]) -> Decision:
    """Return the decision of a row."""
    r = row._mapping
    return Decision(
        r["decision"],
        instant_us(r["decided_at_us"]),
        r["actor"],
        r["why"],
        Reason(r["reason"]),
        Selector(**orjson.loads(r["selector"])),
        r["count"],
        r["is_open"],
        r["last_certificate"],
    )


def _ban(row: sa.Row[Any]) -> Ban:
    r = row._mapping
    return Ban(
        r["ban"],
        Selector(**orjson.loads(r["selector"])),
        r["why"],
        r["actor"],
        instant(r["since"]),
        None if r["until"] is None else instant(r["until"]),
        None if r["lifted_at"] is None else instant(r["lifted_at"]),
    )
