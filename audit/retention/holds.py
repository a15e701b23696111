"""Legal holds: what keeps bodies from being redacted, whatever the rules say.

    placed -> release asked -> released by somebody else
                            -> lapsed after a day, and still in force

A hold is of everything, or of the entries that all of its conditions speak of. It errs on the side
of keeping: an identity or a serial number counts wherever in an entry it stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
import sqlalchemy as sa

from audit.entry import KINDS
from audit.log import lock_log, microseconds
from meshca.database import metadata, reading
from meshca.errors import Conflict, RequestRefused

ASKED_WITHIN: Final = timedelta(days=1)
_LOCK: Final = 0x6D657368_686F6C64  # "meshhold": any constant, the same in every process

audit_holds = sa.Table(
    "audit_holds",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("placed_at", sa.BigInteger, nullable=False),  # microseconds since the epoch
    sa.Column("placed_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("asked_at", sa.BigInteger, nullable=True),
    sa.Column("asked_by", sa.Text, nullable=False),
    sa.Column("asked_reason", sa.Text, nullable=False),
    sa.Column("released_at", sa.BigInteger, nullable=True),
    sa.Column("released_by", sa.Text, nullable=False),
    sa.Column("released_reason", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a hold keeps: `everything`, or what all of the other fields speak of.

    `since` is inclusive, `until` exclusive. Raises RequestRefused for a scope of nothing, of
    everything and something, of no time, or of a kind that there is none.
    """

    everything: bool = False
    kinds: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    spiffe_id: str = ""
    namespace: str = ""
    cluster: str = ""
    serial: str = ""

    def __post_init__(self) -> None:
        """Check that this is a scope."""
        conditions = (self.kinds, self.since, self.until, *self._texts().values())
        if self.everything == any(conditions):
            message = "a hold is of everything, or of at least one condition"
            raise RequestRefused("scope", message)
        if unknown := sorted(self.kinds - set(KINDS)):
            message = f"unknown kind {unknown[0]!r}; known: {', '.join(KINDS)}"
            raise RequestRefused("unknown_kind", message)
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise RequestRefused("scope", "since is not before until")

    def _texts(self) -> dict[str, str]:
        names = ("spiffe_id", "namespace", "cluster", "serial")
        return {name: getattr(self, name) for name in names}

    def may_hold(self, time_us: int, kind: str) -> bool:
        """Return whether it could hold an entry of this time and kind."""
        return (
            (not self.kinds or kind in self.kinds)
            and (self.since is None or microseconds(self.since) <= time_us)
            and (self.until is None or time_us < microseconds(self.until))
        )

    def holds(self, time_us: int, kind: str, body: str) -> bool:
        """Return whether it keeps the entry with this `body`."""
        if not self.may_hold(time_us, kind):
            return False
        if any(text not in body for text in (self.spiffe_id, self.serial)):
            return False
        if not self.namespace and not self.cluster:
            return True
        document = orjson.loads(body)
        return self._in_namespace(document) and (
            not self.cluster or self.cluster in (document["cluster"], _detail(document, "cluster"))
        )

    def _in_namespace(self, document: Mapping[str, Any]) -> bool:
        name = self.namespace
        if not name or name in (document["namespace"], _detail(document, "namespace")):
            return True
        if str(document.get("destination", "")).startswith(f"{name}/"):
            return True
        about = (document["spiffe_id"], document["actor"])
        return any(f"/ns/{name}/" in f"{spiffe_id}/" for spiffe_id in about)

    def as_json(self) -> dict[str, Any]:
        """Return the conditions that are given, as JSON has them."""
        found: dict[str, Any] = {name: text for name, text in self._texts().items() if text}
        if self.everything:
            found["everything"] = True
        if self.kinds:
            found["kinds"] = sorted(self.kinds)
        for name, time in (("since", self.since), ("until", self.until)):
            if time is not None:
                found[name] = time.astimezone(UTC).isoformat().replace("+00:00", "Z")
        return found

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Scope":
        """Return the scope of `as_json`."""
        given = dict(document)
        for name in ("since", "until"):
            if name in given:
                given[name] = datetime.fromisoformat(given[name])
        given["kinds"] = frozenset(given.get("kinds", ()))
        return cls(**given)


def _detail(document: Mapping[str, Any], name: str) -> object:
    return document["details"].get(name)


@dataclass(frozen=True, slots=True)
class Step:
    """Who took a step of a hold, when and why."""

    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A legal hold; `reference` is the case's name elsewhere."""

    name: str
    scope: Scope
    placed: Step
    reference: str = ""
    asked: Step | None = None
    released: Step | None = None

    def is_asked(self, now: datetime) -> bool:
        """Return whether somebody has asked for its release, and not too long ago."""
        return self.asked is not None and now < self.asked.at + ASKED_WITHIN


@dataclass(frozen=True, slots=True)
class HoldChange:
    """A hold as it is to be, and as it was: None when it is placed."""

    hold: Hold
    before: Hold | None = None


class HoldSink:
    """Writes steps of holds."""

    first = staticmethod(lock_log)

    def write(self, connection: sa.Connection, records: Sequence[HoldChange]) -> None:
        """Insert or update one row each; raises Conflict if somebody else was faster."""
        lock_log(connection)
        lock_holds(connection)
        c = audit_holds.c
        for record in records:
            if record.before is None:
                connection.execute(sa.insert(audit_holds).values(_row(record.hold)))
                continue
            asked = record.before.asked
            same = sa.update(audit_holds).where(
                c.name == record.hold.name,
                c.released_at.is_(None),
                c.asked_at.is_(None) if asked is None else c.asked_at == microseconds(asked.at),
            )
            if connection.execute(same.values(_row(record.hold))).rowcount != 1:
                raise Conflict("somebody else has just taken another step; look again")


def lock_holds(connection: sa.Connection) -> None:
    """Wait until nobody else changes holds, or redacts by them, in this transaction.

    The lock of the log comes before this one (`audit.log.lock_log`).
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def holds_in(connection: sa.Connection, *, in_force: bool = True) -> list[Hold]:
    """Return the holds in force, or all of them, oldest first."""
    c = audit_holds.c
    query = sa.select(audit_holds).order_by(c.placed_at, c.name)
    if in_force:
        query = query.where(c.released_at.is_(None))
    return [_hold(row._mapping) for row in connection.execute(query)]


def read_holds(engine: sa.Engine, *, in_force: bool = True) -> list[Hold]:
    """Return what `holds_in` does; raises StoreUnavailable."""
    with reading(engine) as connection:
        return holds_in(connection, in_force=in_force)


def _row(hold: Hold) -> dict[str, Any]:
    return {
        "name": hold.name,
        "scope": orjson.dumps(hold.scope.as_json()).decode(),
        "placed_at": microseconds(hold.placed.at),
        "placed_by": hold.placed.actor,
        "reason": hold.placed.reason,
        "reference": hold.reference,
        **_step("asked", hold.asked),
        **_step("released", hold.released),
    }


def _step(name: str, step: Step | None) -> dict[str, Any]:
    return {
        f"{name}_at": None if step is None else microseconds(step.at),
        f"{name}_by": "" if step is None else step.actor,
        f"{name}_reason": "" if step is None else step.reason,
    }


def _hold(row: sa.RowMapping) -> Hold:
    return Hold(
        name=row["name"],
        scope=Scope.from_json(orjson.loads(row["scope"])),
        placed=Step(_time(row["placed_at"]), row["placed_by"], row["reason"]),
        reference=row["reference"],
        asked=_read_step(row, "asked"),
        released=_read_step(row, "released"),
    )


def _read_step(row: sa.RowMapping, name: str) -> Step | None:
    at = row[f"{name}_at"]
    return None if at is None else Step(_time(at), row[f"{name}_by"], row[f"{name}_reason"])


def _time(microseconds_: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds_)
