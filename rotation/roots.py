"""The table of roots: which of them proxies are told to trust, and how far each one is.

    announced ----> trusted <---> retiring ----> removed
        `-------------- dropped ------------------^

| stage | in the bundle | what it means | goes on when |
|---|---|---|---|
| announced | yes | the upstream has it; nothing is signed under it yet | every proxy has it |
| trusted | yes | authorities under it may sign | an operator replaces it |
| retiring | yes | to be replaced: no new authority under it | nothing alive chains to it |
| removed | no | history | never |

Rules. A root enters the bundle before anything is signed under it, and leaves it only when nothing
alive chains to it (invariant 8). The first roots of an empty table are trusted at once: nobody
holds anything else. An announced root may be dropped by an operator, and is then removed: nothing
was signed under it. What was removed never comes back. A stage changes by comparison, as for
authorities (rotation/standings.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

import orjson
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshca.change_feed import announce
from meshca.database import metadata, reading
from meshca.errors import Conflict, NotFound
from rotation.replicas import forget_confirmations
from rotation.standings import AUTHORITIES_CHANGED, change_stage, root_id

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class RootStage(StrEnum):
    """Where a root stands; the values are stored."""

    ANNOUNCED = "announced"
    TRUSTED = "trusted"
    RETIRING = "retiring"
    REMOVED = "removed"


IN_BUNDLE: Final = frozenset({RootStage.ANNOUNCED, RootStage.TRUSTED, RootStage.RETIRING})

roots = sa.Table(
    "roots",
    metadata,
    sa.Column("root_sha256", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False, unique=True),
    sa.Column("certificate", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("since", _BIG, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("waived", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Waiver:
    """An absent workload that an announced root no longer waits for: who said so, and why."""

    spiffe_id: str
    pod: str
    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Root:
    """One root as stored; `number` counts them in the order in which they came."""

    root_sha256: str
    number: int
    certificate: x509.Certificate
    stage: RootStage
    since: datetime
    reason: str
    waived: tuple[Waiver, ...] = ()


@dataclass(frozen=True, slots=True)
class NewRoot:
    """A root that was not known before."""

    root: Root


@dataclass(frozen=True, slots=True)
class RootChange:
    """A root goes from stage `before` to `after`."""

    root_sha256: str
    before: RootStage
    after: RootStage
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class WaiverAdded:
    """An announced root does not wait for one workload any more."""

    root_sha256: str
    waiver: Waiver


class NewRootSink:
    """Writes roots that were not known before."""

    def write(self, connection: sa.Connection, records: Sequence[NewRoot]) -> None:
        """Insert one row each; raises Conflict when somebody else was faster."""
        for new in records:
            try:
                connection.execute(sa.insert(roots).values(_values(new.root)))
            except sa.exc.IntegrityError as error:
                raise Conflict(f"root {new.root.root_sha256} is known already") from error
        announce(connection, AUTHORITIES_CHANGED)


class RootChangeSink:
    """Changes stages, each only from the stage it was decided on."""

    def write(self, connection: sa.Connection, records: Sequence[RootChange]) -> None:
        """Update one row each; raises Conflict when a row is not in the stage expected of it.

        What is known of who has a root goes with the stage in which it is waited for.
        """
        for change in records:
            change_stage(connection, roots.c.root_sha256, change.root_sha256, change)
            if change.before is RootStage.ANNOUNCED:
                forget_confirmations(connection, change.root_sha256)
        announce(connection, AUTHORITIES_CHANGED)


class WaiverSink:
    """Adds waivers to their roots."""

    def write(self, connection: sa.Connection, records: Sequence[WaiverAdded]) -> None:
        """Append each; raises NotFound when there is no such root."""
        for added in records:
            where = roots.c.root_sha256 == added.root_sha256
            row = connection.execute(sa.select(roots).where(where)).one_or_none()
            if row is None:
                raise NotFound(f"there is no root {added.root_sha256}")
            waived = (*_row(row).waived, added.waiver)
            connection.execute(sa.update(roots).where(where).values(waived=_json(waived)))
        announce(connection, AUTHORITIES_CHANGED)


@dataclass(frozen=True, slots=True)
class Roots:
    """Reads of the roots table."""

    engine: sa.Engine

    def all(self) -> list[Root]:
        """Return every root there ever was, in the order in which they came."""
        with reading(self.engine) as connection:
            rows = connection.execute(sa.select(roots).order_by(roots.c.number))
            return [_row(row) for row in rows]

    def get(self, root_sha256: str) -> Root:
        """Return one root; raises NotFound."""
        for root in self.all():
            if root.root_sha256 == root_sha256:
                return root
        raise NotFound(f"there is no root {root_sha256}; see `meshca ca show`")


def unknown(
    offered: Sequence[x509.Certificate], known: Sequence[Root], *, at: datetime
) -> list[NewRoot]:
    """Return the records of those `offered` by an upstream that are not `known` yet."""
    ids = {root.root_sha256 for root in known}
    number = max((root.number for root in known), default=0)
    stage = RootStage.ANNOUNCED if known else RootStage.TRUSTED
    reason = "the upstream has it" if known else "the first roots"
    fresh = {root_id(certificate): certificate for certificate in offered}
    new = [(name, certificate) for name, certificate in fresh.items() if name not in ids]
    return [
        NewRoot(Root(name, number + i, certificate, stage, at, reason))
        for i, (name, certificate) in enumerate(new, start=1)
    ]


def _values(root: Root) -> dict[str, Any]:
    return {
        "root_sha256": root.root_sha256,
        "number": root.number,
        "certificate": root.certificate.public_bytes(Encoding.PEM).decode(),
        "stage": root.stage.value,
        "since": _seconds(root.since),
        "reason": root.reason,
        "waived": _json(root.waived),
    }


def _row(row: sa.Row[Any]) -> Root:
    r = row._mapping
    return Root(
        r["root_sha256"],
        r["number"],
        x509.load_pem_x509_certificate(r["certificate"].encode()),
        RootStage(r["stage"]),
        _instant(r["since"]),
        r["reason"],
        tuple(
            Waiver(w["spiffe_id"], w["pod"], w["actor"], w["reason"], _instant(w["at"]))
            for w in orjson.loads(r["waived"])
        ),
    )


def _json(waived: Sequence[Waiver]) -> str:
    return orjson.dumps(
        [
            {
                "spiffe_id": w.spiffe_id,
                "pod": w.pod,
                "actor": w.actor,
                "reason": w.reason,
                "at": _seconds(w.at),
            }
            for w in waived
        ]
    ).decode()


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
