"""The steps that operators took, in order: rows that are only ever added.

    stage      staged -> promoted* -> enforced | withdrawn, and fell_back when a canary went wrong
    policy/D   approved, by each person who approved of the policy with digest D
    bypass/B   requested -> approved -> ended

The first word is the subject: steps of one subject follow each other. A step says which one it
`follows`; when another has come in between it is refused, so that two operators, or two replicas,
never take the same step twice. The number of a step is that of its kind in the table `changes`,
given in its transaction. What stands after the steps is worked out in `authz.staging.standing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import orjson
import sqlalchemy as sa

from meshca.change_feed import announce
from meshca.database import metadata, reading
from meshca.errors import Conflict, NotFound

STAGING_CHANGED: Final = "staging"
STAGE_SUBJECT: Final = "stage"

staging_events = sa.Table(
    "staging_events",
    metadata,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("documents", sa.Text, nullable=False),
)


class Step(StrEnum):
    """What happened to a subject."""

    STAGED = "staged"
    PROMOTED = "promoted"
    FELL_BACK = "fell_back"
    WITHDRAWN = "withdrawn"
    ENFORCED = "enforced"
    APPROVED = "approved"
    REQUESTED = "requested"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Event:
    """One step: `follows` is the number of the subject's step before it, 0 for the first.

    `number` is 0 before it is written; `documents`, of a staged set, are empty when it was read.
    """

    subject: str
    step: Step
    at: datetime
    actor: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    documents: str = ""
    follows: int = 0
    number: int = 0


class EventSink:
    """Writes steps, and announces them."""

    def write(self, connection: sa.Connection, records: Sequence[Event]) -> None:
        """Insert one row each; raises Conflict when a step does not follow the last one."""
        for record in records:
            number = announce(connection, STAGING_CHANGED)  # from here on others wait
            _check_follows(connection, record)
            values = {
                "number": number,
                "subject": record.subject,
                "step": str(record.step),
                "at_us": (record.at - _EPOCH) // timedelta(microseconds=1),
                "actor": record.actor,
                "reason": record.reason,
                "details": orjson.dumps(dict(record.details)).decode(),
                "documents": record.documents,
            }
            connection.execute(sa.insert(staging_events).values(values))


def _check_follows(connection: sa.Connection, record: Event) -> None:
    c = staging_events.c
    newest = sa.select(sa.func.max(c.number)).where(c.subject == record.subject)
    if (connection.execute(newest).scalar() or 0) != record.follows:
        raise Conflict("somebody else has just taken another step; look again, then decide")


def read_events(engine: sa.Engine) -> list[Event]:
    """Return every step in its order, without documents; raises StoreUnavailable."""
    columns = [column for column in staging_events.c if column.name != "documents"]
    query = sa.select(*columns).order_by(staging_events.c.number)
    with reading(engine) as connection:
        return [_event(row) for row in connection.execute(query)]


def newest_event(engine: sa.Engine) -> int:
    """Return the number of the last step; 0 when there was none. Raises StoreUnavailable."""
    with reading(engine) as connection:
        newest = connection.execute(sa.select(sa.func.max(staging_events.c.number))).scalar()
    return int(newest or 0)


def read_documents(engine: sa.Engine, number: int) -> str:
    """Return the documents that step `number` staged; raises NotFound and StoreUnavailable."""
    query = sa.select(staging_events.c.documents).where(staging_events.c.number == number)
    with reading(engine) as connection:
        found = connection.execute(query).scalar_one_or_none()
    if found is None:
        raise NotFound(f"nothing was staged with number {number}")
    return str(found)


def _event(row: sa.Row[Any]) -> Event:
    r = row._mapping
    return Event(
        subject=r["subject"],
        step=Step(r["step"]),
        at=_EPOCH + timedelta(microseconds=r["at_us"]),
        actor=r["actor"],
        reason=r["reason"],
        details=orjson.loads(r["details"]),
        number=r["number"],
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
