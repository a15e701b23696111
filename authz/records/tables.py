"""The tables of decision records, and what is written into them.

    decision_records    one row for each denial, each allowed request that what is on trial would
                        deny, and each AUDIT match
    decision_minutes    every decision, counted by operation, verdict, rule and minute
    decision_gaps       how many decisions could not be kept, since when, and why

Rows are only ever added, and deleted when they are old (authz/records/retention.py). Text that a
proxy passed on is cut and cleaned before it comes here (authz/records/operation.py).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from authz.records.observed import NOWHERE, Place
from authz.records.operation import Operation
from meshca.database import metadata

Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _operation_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("source", sa.Text, nullable=False, index=True),
        sa.Column("destination", sa.Text, nullable=False, index=True),
        sa.Column("namespace", sa.Text, nullable=False, index=True),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("port", sa.Integer, nullable=True),
        sa.Column("method", sa.Text, nullable=True),
        sa.Column("path", sa.Text, nullable=True),
        sa.Column("host", sa.Text, nullable=True),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("rule", sa.Integer, nullable=True),
    ]


records = sa.Table(
    "decision_records",
    metadata,
    sa.Column("id", Number, primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False, index=True),
    *_operation_columns(),
    sa.Column("sni", sa.Text, nullable=False),
    sa.Column("source_ip", sa.Text, nullable=False),
    sa.Column("remote_ip", sa.Text, nullable=False),
    sa.Column("door", sa.Text, nullable=False),
    sa.Column("shadow", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
)
minutes = sa.Table(
    "decision_minutes",
    metadata,
    sa.Column("id", Number, primary_key=True),
    sa.Column("minute", sa.BigInteger, nullable=False, index=True),
    *_operation_columns(),
    sa.Column("count", sa.BigInteger, nullable=False),
    sa.Column("first_us", sa.BigInteger, nullable=False),
    sa.Column("last_us", sa.BigInteger, nullable=False),
)
gaps = sa.Table(
    "decision_gaps",
    metadata,
    sa.Column("id", Number, primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False, index=True),
    sa.Column("since_us", sa.BigInteger, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("count", sa.BigInteger, nullable=False),
)

ALLOW: Final = "allow"
DENY: Final = "deny"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided, and by which policy (`namespace/name`) and rule, if one did."""

    allowed: bool
    policy: str = ""
    rule: int | None = None

    @property
    def verdict(self) -> str:
        """Return `allow` or `deny`."""
        return ALLOW if self.allowed else DENY


@dataclass(frozen=True, slots=True)
class FullRecord:
    """One decision in full; `shadow` is the verdict of what is on trial where it differs.

    `door` is who told of it: `ext_authz`, `access_log` or `application`. `details` is
    JSON. `place` is for the audit log only.
    """

    at: datetime
    operation: Operation
    outcome: Outcome
    door: str
    reason: str
    sni: str = ""
    source_ip: str = ""
    remote_ip: str = ""
    shadow: str = ""
    details: str = "{}"
    request_id: str = ""
    place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class MinuteCount:
    """How often one operation was decided in one way in the minute that begins at `minute`."""

    minute: int
    operation: Operation
    outcome: Outcome
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Gap:
    """How many decisions between `since` and `at` were not kept, and why."""

    at: datetime
    since: datetime
    reason: str
    count: int


def microseconds(time: datetime) -> int:
    """Return `time` in microseconds since the epoch."""
    return round(time.timestamp() * 1_000_000)
