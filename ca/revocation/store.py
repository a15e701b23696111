"""The tables of revocations and bans: what was decided, by whom and why, and what it hit.

A decision is written first, open, with what it selects; then what it hit, in batches; then it is
closed. So one that was interrupted is known, and is finished at the next start. Each change has a
revision, the number of its kind in the table `changes`, given in the transaction of the change: who
knows everything up to a revision reads what came after. Rows are never deleted.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import orjson
import sqlalchemy as sa

from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.store import certificates
from meshca.change_feed import announce
from meshca.database import Sink, bulk_insert, metadata, reading
from meshca.errors import Conflict, NotFound

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
    """

    decision: str
    at: datetime
    actor: str
    why: str
    reason: Reason
    selector: Selector
    count: int = 0
    is_open: bool = True


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
    """Everything that a decision hit is written down: `count` certificates."""

    decision: str
    count: int


class DecisionSink:
    """Writes decisions."""

    def write(self, connection: sa.Connection, records: Sequence[Decision]) -> None:
        """Insert one row each."""
        for record in records:
            values = {
                "decision": record.decision,
                "decided_at_us": microseconds(record.at),
                "actor": record.actor,
                "why": record.why,
                "reason": record.reason.value,
                "selector": _text(record.selector),
                "count": record.count,
                "is_open": record.is_open,
            }
            connection.execute(sa.insert(decisions).values(values))


class RevokedSink:
    """Writes what is revoked; what was revoked before stays as it was."""

    def write(self, connection: sa.Connection, records: Sequence[Revoked]) -> None:
        """Insert the rows that are not there, under a revision of their own."""
        revision = announce(connection, REVOCATIONS_CHANGED)
        for record in records:
            serials = [r.serial for r in record.batch]
            held = _existing(connection, serials)
            fresh = [r for r in record.batch if r.serial not in held]
            bulk_insert(connection, revocations, [_row(r, revision) for r in fresh])
            for r in record.batch:
                if held.get(r.serial) is not None:  # it was released: it is revoked again
                    values = {"decision": r.decision, "reason": r.reason.value, "released_at": None}
                    values |= {"revoked_at": seconds(r.revoked_at), "revision": revision}
                    where = revocations.c.serial == r.serial
                    connection.execute(sa.update(revocations).where(where).values(values))


class ReleasedSink:
    """Ends holds."""

    def write(self, connection: sa.Connection, records: Sequence[Released]) -> None:
        """Update one row each; raises Conflict when it is not a hold that is in force."""
        revision = announce(connection, REVOCATIONS_CHANGED)
        for record in records:
            update = (
                sa.update(revocations)
                .where(revocations.c.serial == record.serial)
                .where(revocations.c.reason == Reason.certificateHold.value)
                .where(revocations.c.released_at.is_(None))
                .values(released_at=seconds(record.at), revision=revision)
            )
            if connection.execute(update).rowcount != 1:
                raise Conflict(f"serial {record.serial} is not on hold")


class ClosedSink:
    """Closes decisions."""

    def write(self, connection: sa.Connection, records: Sequence[Closed]) -> None:
        """Update one row each."""
        for record in records:
            connection.execute(
                sa.update(decisions)
                .where(decisions.c.decision == record.decision)
                .values(is_open=False, count=record.count)
            )


class BanSink:
    """Writes bans."""

    def write(self, connection: sa.Connection, records: Sequence[Ban]) -> None:
        """Insert one row each."""
        announce(connection, REVOCATIONS_CHANGED)
        for record in records:
            values = {
                "ban": record.ban,
                "selector": _text(record.selector),
                "why": record.why,
                "actor": record.actor,
                "since": seconds(record.since),
                "until": None if record.until is None else seconds(record.until),
                "lifted_at": None,
            }
            connection.execute(sa.insert(bans).values(values))


class LiftedSink:
    """Ends bans."""

    def write(self, connection: sa.Connection, records: Sequence[Lifted]) -> None:
        """Update one row each; raises Conflict when it does not hold any more."""
        announce(connection, REVOCATIONS_CHANGED)
        for record in records:
            update = (
                sa.update(bans)
                .where(bans.c.ban == record.ban, bans.c.lifted_at.is_(None))
                .values(lifted_at=seconds(record.at))
            )
            if connection.execute(update).rowcount != 1:
                raise Conflict(f"ban {record.ban} does not hold any more")


REVOCATION_SINKS: Final[Mapping[type, Sink]] = {
    Decision: DecisionSink(),
    Revoked: RevokedSink(),
    Released: ReleasedSink(),
    Closed: ClosedSink(),
    Ban: BanSink(),
    Lifted: LiftedSink(),
}


@dataclass(frozen=True, slots=True)
class Revocations:
    """Reads of these tables, and of the inventory by selector."""

    engine: sa.Engine

    def select(self, selector: Selector, *, now: datetime) -> Iterator[Revocation]:
        """Yield what `selector` would hit now: unexpired, not revoked yet; with no decision."""
        c = certificates.c
        revoked = sa.select(revocations.c.serial).where(
            revocations.c.serial == c.serial, revocations.c.released_at.is_(None)
        )
        query = sa.select(certificates).where(c.not_after > seconds(now), ~revoked.exists())
        for name, value in selector.given().items():
            if name != "fingerprint":
                query = query.where(c[name] == value)
        with reading(self.engine) as connection:
            for row in connection.execute(query.order_by(c.id)):
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
                    reason=Reason.unspecified,
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
            return [_revocation(row) for row in connection.execute(query)]

    def get(self, serial: str) -> Revocation:
        """Return what is known of a revoked certificate; raises NotFound."""
        wanted = serial.replace(":", "").lower().lstrip("0")
        query = sa.select(revocations).where(revocations.c.serial == wanted)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"serial {wanted} is not revoked")
        return _revocation(row)

    def decision(self, name: str) -> Decision:
        """Return one decision; raises NotFound."""
        query = sa.select(decisions).where(decisions.c.decision == name)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"there is no decision {name[:64]}")
        return _decision(row)

    def open_decisions(self) -> list[Decision]:
        """Return the decisions that were interrupted, the oldest first."""
        query = sa.select(decisions).where(decisions.c.is_open).order_by(decisions.c.decided_at_us)
        with reading(self.engine) as connection:
            return [_decision(row) for row in connection.execute(query)]

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


def _existing(connection: sa.Connection, serials: Sequence[str]) -> dict[str, int | None]:
    """Return when each of `serials` that is in the table was released."""
    found: dict[str, int | None] = {}
    for start in range(0, len(serials), _AT_ONCE):
        some = serials[start : start + _AT_ONCE]
        query = sa.select(revocations.c.serial, revocations.c.released_at).where(
            revocations.c.serial.in_(some)
        )
        for serial, released_at in connection.execute(query):
            found[serial] = released_at
    return found


def _row(r: Revocation, revision: int) -> tuple[str | int | None, ...]:
    return (
        r.serial,
        r.decision,
        r.authority_id,
        r.spiffe_id,
        r.fingerprint,
        seconds(r.not_after),
        r.reason.value,
        seconds(r.revoked_at),
        None,
        revision,
    )


def _revocation(row: sa.Row[Any]) -> Revocation:
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


def _decision(row: sa.Row[Any]) -> Decision:
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


def _text(selector: Selector) -> str:
    return orjson.dumps(selector.given(), option=orjson.OPT_SORT_KEYS).decode()
