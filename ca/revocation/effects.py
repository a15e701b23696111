"""The table of effects: when a replica pushed what was revoked, and when its proxies had it.

A row is about one revision (store.py) on one replica, and so about everything that was revoked
between the row before it and that revision. It is written when the push begins, every few seconds
while proxies are behind, and once all have acknowledged. Not here: watching them (sds/effects.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

import orjson
import sqlalchemy as sa

from ca.revocation.store import decisions, instant_us, microseconds, revocations
from meshca.database import Sink, metadata, reading

MAXIMUM_NAMED: Final = 100
"""Proxies that a row names as behind; of the others it tells the number."""
MAXIMUM_DECISIONS: Final = 32

effects = sa.Table(
    "revocation_effects",
    metadata,
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("replica", sa.Text, primary_key=True),
    sa.Column("pushed_at_us", sa.BigInteger, nullable=False),
    sa.Column("proxies", sa.Integer, nullable=False),
    sa.Column("acknowledged", sa.Integer, nullable=False),
    sa.Column("last_at_us", sa.BigInteger, nullable=True),
    sa.Column("is_complete", sa.Boolean, nullable=False),
    sa.Column("report", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class SignedList:
    """The first list of an authority that says what was revoked."""

    authority_id: str
    number: int
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class Behind:
    """A connected proxy that has not acknowledged it: `lacks` is list, filter, or both.

    `since` is the push, or when the proxy connected if that was later; `nack` is what it said.
    """

    spiffe_id: str
    pod: str
    since: datetime
    lacks: str
    nack: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How far `revision` is in force among the proxies of one replica, at `seen_at`.

    `proxies` were connected at the push; each has `acknowledged`, or `left`, or is behind.
    `handshakes_at` and `requests_at` are the last acknowledgements of a list and of a filter,
    `last_at` the later of them. `without_list` and `without_filter` are proxies that follow none:
    what was revoked is not refused there on new handshakes, or on open connections. `unsigned` are
    authorities whose list did not come: for theirs it is in force by the filter only.
    """

    revision: int
    replica: str
    pushed_at: datetime
    seen_at: datetime
    proxies: int = 0
    acknowledged: int = 0
    left: int = 0
    handshakes_at: datetime | None = None
    requests_at: datetime | None = None
    without_list: int = 0
    without_filter: int = 0
    lists: Sequence[SignedList] = ()
    unsigned: Sequence[str] = ()
    behind: Sequence[Behind] = ()
    behind_count: int = 0
    is_complete: bool = False

    @property
    def last_at(self) -> datetime | None:
        """Return when the last proxy acknowledged; None before any did."""
        known = [at for at in (self.handshakes_at, self.requests_at) if at is not None]
        return max(known, default=None)

    def is_news_after(self, other: "Effect | None") -> bool:
        """Return whether it says anything but the time that `other` does not."""
        return other is None or replace(self, seen_at=other.seen_at) != other


@dataclass(frozen=True, slots=True)
class EffectSeen:
    """This is how far it is; `after`: it stands for unfinished rows since that revision, too."""

    effect: Effect
    after: int | None = None


class EffectSink:
    """Writes effects."""

    def write(self, connection: sa.Connection, records: Sequence[EffectSeen]) -> None:
        """Insert or update one row each."""
        c = effects.c
        for record in records:
            effect = record.effect
            mine = c.replica == effect.replica
            if record.after is not None:
                stale = (c.revision > record.after, c.revision < effect.revision)
                connection.execute(sa.delete(effects).where(mine, *stale, ~c.is_complete))
            connection.execute(sa.delete(effects).where(mine, c.revision == effect.revision))
            connection.execute(sa.insert(effects).values(_values(effect)))


EFFECT_SINKS: Final[Mapping[type, Sink]] = {EffectSeen: EffectSink()}


@dataclass(frozen=True, slots=True)
class Extent:
    """What changed between two revisions: the last one of each authority, and what decided it.

    `decided_at` is the earliest decision that revoked anything of it; None for releases only.
    """

    authorities: Mapping[str, int]
    decisions: Sequence[str] = ()
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Effects:
    """Reads of the table, and of what the rows are about."""

    engine: sa.Engine

    def of(self, revision: int) -> list[Effect]:
        """Return, of each replica, the effect that `revision` is part of; ordered by replica."""
        c = effects.c
        first = (
            sa.select(c.replica.label("replica"), sa.func.min(c.revision).label("revision"))
            .where(c.revision >= revision)
            .group_by(c.replica)
            .subquery()
        )
        here = sa.and_(c.replica == first.c.replica, c.revision == first.c.revision)
        query = sa.select(effects).join(first, here).order_by(c.replica)
        with reading(self.engine) as connection:
            return [_effect(row) for row in connection.execute(query)]

    def newest_complete(self, replica: str) -> int:
        """Return up to which revision everything was in force on `replica`; 0 if nothing was.

        A replica that has no row yet takes over where the furthest of the others is.
        """
        c = effects.c
        newest = sa.select(sa.func.max(c.revision)).where(c.is_complete)
        mine = sa.select(sa.func.max(c.revision)).where(c.replica == replica)
        with reading(self.engine) as connection:
            if connection.execute(mine).scalar() is not None:
                newest = newest.where(c.replica == replica)
            return int(connection.execute(newest).scalar() or 0)

    def extent(self, after: int, until: int) -> Extent:
        """Return what changed after the one revision until the other."""
        r, d = revocations.c, decisions.c
        part = sa.and_(r.revision > after, r.revision <= until)
        by_authority = (
            sa.select(r.authority_id, sa.func.max(r.revision)).where(part).group_by(r.authority_id)
        )
        by_decision = (
            sa.select(d.decision, d.decided_at_us)
            .where(d.decision.in_(sa.select(r.decision).where(part, r.released_at.is_(None))))
            .order_by(d.decided_at_us)
            .limit(MAXIMUM_DECISIONS)
        )
        with reading(self.engine) as connection:
            authorities = {str(name): int(last) for name, last in connection.execute(by_authority)}
            made = connection.execute(by_decision).all()
        names = tuple(str(name) for name, _ in made)
        return Extent(authorities, names, instant_us(made[0][1]) if made else None)


def _values(effect: Effect) -> dict[str, Any]:
    values = asdict(effect)
    pushed_at, last_at = values.pop("pushed_at"), effect.last_at
    columns = {name: values.pop(name) for name in _PLAIN}
    return {
        **columns,
        "pushed_at_us": microseconds(pushed_at),
        "last_at_us": None if last_at is None else microseconds(last_at),
        "report": orjson.dumps(values, option=orjson.OPT_SORT_KEYS).decode(),
    }


def _effect(row: sa.Row[Any]) -> Effect:
    r = row._mapping
    report = orjson.loads(r["report"])
    for name in ("seen_at", "handshakes_at", "requests_at"):
        report[name] = None if report[name] is None else datetime.fromisoformat(report[name])
    report["lists"] = tuple(SignedList(**_dated(one, "signed_at")) for one in report["lists"])
    report["behind"] = tuple(Behind(**_dated(one, "since")) for one in report["behind"])
    report["unsigned"] = tuple(report["unsigned"])
    plain = {name: r[name] for name in _PLAIN}
    return Effect(pushed_at=instant_us(r["pushed_at_us"]), **plain, **report)


def _dated(stored: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {**stored, name: datetime.fromisoformat(stored[name])}


_PLAIN: Final = ("revision", "replica", "proxies", "acknowledged", "is_complete")
