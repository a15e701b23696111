"""Writing the tables of revocations and bans: each change under a revision, and announced.

What may be handed in twice is written once: who resumes an interrupted decision, and two operators
who revoke the same at the same time, change nothing that is so already.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import orjson
import sqlalchemy as sa

from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from ca.revocation.store import (
    REVOCATIONS_CHANGED,
    Ban,
    Closed,
    Decision,
    Lifted,
    Released,
    Revocation,
    Revoked,
    bans,
    decisions,
    microseconds,
    revocations,
    seconds,
)
from meshca.change_feed import announce
from meshca.database import Sink, bulk_insert
from meshca.errors import Conflict

_AT_ONCE: Final = 500
_HOLD: Final = Reason.certificateHold.value


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
                "last_certificate": record.last_certificate,
            }
            connection.execute(sa.insert(decisions).values(values))


class RevokedSink:
    """Writes what is revoked; what was revoked before stays as it was, unless it was a hold."""

    def write(self, connection: sa.Connection, records: Sequence[Revoked]) -> None:
        """Insert the rows that are not there, under a revision of their own."""
        revision = announce(connection, REVOCATIONS_CHANGED)
        for record in records:
            held = _existing(connection, [r.serial for r in record.batch])
            fresh = [r for r in record.batch if r.serial not in held]
            bulk_insert(connection, revocations, [_row(r, revision) for r in fresh])
            for r in record.batch:
                if r.serial in held:
                    _revoke_again(connection, r, held[r.serial], revision)


class ReleasedSink:
    """Ends holds."""

    def write(self, connection: sa.Connection, records: Sequence[Released]) -> None:
        """Update one row each; raises Conflict when it is not a hold that is in force."""
        revision = announce(connection, REVOCATIONS_CHANGED)
        for record in records:
            update = (
                sa.update(revocations)
                .where(revocations.c.serial == record.serial)
                .where(revocations.c.reason == _HOLD)
                .where(revocations.c.released_at.is_(None))
                .values(released_at=seconds(record.at), revision=revision)
            )
            if connection.execute(update).rowcount != 1:
                raise Conflict(f"serial {record.serial} is not on hold")


class ClosedSink:
    """Closes decisions; the count becomes that of what was written for each."""

    def write(self, connection: sa.Connection, records: Sequence[Closed]) -> None:
        """Update one row each."""
        for record in records:
            hit = sa.select(sa.func.count()).where(revocations.c.decision == record.decision)
            connection.execute(
                sa.update(decisions)
                .where(decisions.c.decision == record.decision)
                .values(is_open=False, count=hit.scalar_subquery())
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
        """Update one row each; raises Conflict when it was lifted before."""
        announce(connection, REVOCATIONS_CHANGED)
        for record in records:
            update = (
                sa.update(bans)
                .where(bans.c.ban == record.ban, bans.c.lifted_at.is_(None))
                .values(lifted_at=seconds(record.at))
            )
            if connection.execute(update).rowcount != 1:
                raise Conflict(f"ban {record.ban} was lifted already")


REVOCATION_SINKS: Final[Mapping[type, Sink]] = {
    Decision: DecisionSink(),
    Revoked: RevokedSink(),
    Released: ReleasedSink(),
    Closed: ClosedSink(),
    Ban: BanSink(),
    Lifted: LiftedSink(),
}

_Standing = tuple[int, int | None]  # the reason's code, and when a hold was ended


def _existing(connection: sa.Connection, serials: Sequence[str]) -> dict[str, _Standing]:
    """Return how each of `serials` stands that is in the table."""
    found: dict[str, _Standing] = {}
    c = revocations.c
    for start in range(0, len(serials), _AT_ONCE):
        some = serials[start : start + _AT_ONCE]
        query = sa.select(c.serial, c.reason, c.released_at).where(c.serial.in_(some))
        for serial, reason, released_at in connection.execute(query):
            found[serial] = (reason, released_at)
    return found


def _revoke_again(
    connection: sa.Connection, r: Revocation, standing: _Standing, revision: int
) -> None:
    """Revoke what was released, or for good what is on hold; leave alone what is revoked."""
    reason, released_at = standing
    values: dict[str, str | int | None] = {
        "decision": r.decision,
        "reason": r.reason.value,
        "revision": revision,
    }
    if released_at is not None:
        values |= {"released_at": None, "revoked_at": seconds(r.revoked_at)}
    elif reason != _HOLD or r.reason.value == _HOLD:
        return
    # From a hold to good the date stays: nobody was to believe it since.
    where = revocations.c.serial == r.serial
    connection.execute(sa.update(revocations).where(where).values(values))


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


def _text(selector: Selector) -> str:
    return orjson.dumps(selector.given(), option=orjson.OPT_SORT_KEYS).decode()
