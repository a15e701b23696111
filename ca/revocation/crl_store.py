"""The table of revocation lists: the newest one of each authority, and its number.

A list takes the place of the one whose number is one less, and of no other: of two who sign for one
authority at once the second is refused. So no number is given twice, and none is ever lower. What
is committed here is what is in force; whoever tells proxies of a list does so after that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from ca.revocation.store import instant, instant_us, microseconds, seconds
from ca.revocation.view import Crl
from meshca.change_feed import announce
from meshca.database import Sink, metadata, reading
from meshca.errors import Conflict

CRLS_CHANGED: Final = "crls"
"""The kind of change that replicas hear of when a list was signed."""

crls = sa.Table(
    "crls",
    metadata,
    sa.Column("authority_id", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("this_update", sa.BigInteger, nullable=False),
    sa.Column("next_update", sa.BigInteger, nullable=False),
    sa.Column("signed_at_us", sa.BigInteger, nullable=False),
    sa.Column("der", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class CrlSigned:
    """A list was signed: it is to take the place of the one before it, or to be the first."""

    crl: Crl


class CrlSignedSink:
    """Puts lists in force, each only after the one it was made to follow."""

    def write(self, connection: sa.Connection, records: Sequence[CrlSigned]) -> None:
        """Insert or update one row each; raises Conflict when another list came in between.

        Also when the one in force knows a later revision: nothing that is revoked is forgotten.
        """
        announce(connection, CRLS_CHANGED)
        for record in records:
            crl = record.crl
            if not (_insert(connection, crl) if crl.number == 1 else _replace(connection, crl)):
                raise Conflict(
                    f"authority {crl.authority_id}: list {crl.number} does not follow the one in "
                    "force; somebody else has signed another"
                )


CRL_SINKS: Final[Mapping[type, Sink]] = {CrlSigned: CrlSignedSink()}


def _insert(connection: sa.Connection, crl: Crl) -> bool:
    """Return whether it is the first."""
    is_known = sa.select(crls.c.number).where(crls.c.authority_id == crl.authority_id)
    if connection.execute(is_known).first() is not None:
        return False
    # Of two at once on PostgreSQL `announce` let one wait for the other.
    connection.execute(sa.insert(crls).values(authority_id=crl.authority_id, **_values(crl)))
    return True


def _replace(connection: sa.Connection, crl: Crl) -> bool:
    """Return whether it follows the one in force."""
    update = (
        sa.update(crls)
        .where(crls.c.authority_id == crl.authority_id, crls.c.number == crl.number - 1)
        .where(crls.c.revision <= crl.revision)
        .values(**_values(crl))
    )
    return connection.execute(update).rowcount == 1


@dataclass(frozen=True, slots=True)
class Crls:
    """Reads of the table."""

    engine: sa.Engine

    def newer(self, known: Mapping[str, int], *, now: datetime) -> list[Crl]:
        """Return the lists that have not ended, but for those `known` by their numbers."""
        c = crls.c
        numbers = sa.select(c.authority_id, c.number).where(c.next_update > seconds(now))
        with reading(self.engine) as connection:
            rows = connection.execute(numbers).all()
            names = [name for name, number in rows if number > known.get(name, 0)]
            query = sa.select(crls).where(c.authority_id.in_(names))
            return [_crl(row) for row in connection.execute(query)] if names else []

    def number(self, authority_id: str) -> int:
        """Return the number of the last list of an authority, ended or not; 0 before any."""
        query = sa.select(crls.c.number).where(crls.c.authority_id == authority_id)
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar() or 0)


def _values(crl: Crl) -> dict[str, Any]:
    return {
        "number": crl.number,
        "revision": crl.revision,
        "this_update": seconds(crl.this_update),
        "next_update": seconds(crl.next_update),
        "signed_at_us": microseconds(crl.signed_at),
        "der": crl.der,
    }


def _crl(row: sa.Row[Any]) -> Crl:
    r = row._mapping
    return Crl(
        authority_id=r["authority_id"],
        number=r["number"],
        revision=r["revision"],
        this_update=instant(r["this_update"]),
        next_update=instant(r["next_update"]),
        signed_at=instant_us(r["signed_at_us"]),
        der=r["der"],
    )
