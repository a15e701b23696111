"""The table of authorities: each one's certificate chain, stage, and its key if it may be kept.

A stage changes by comparison: the row must still be in the stage that the change was decided on,
so that of two who advance one authority at once the second is refused, and nothing is half done.
Keys are stored only as wrapped by a `ca.at_rest.KeyAtRest`; without one the column stays empty.
Rows are never deleted: they are the history.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from ca.authority import Authority
from ca.store import certificates
from meshca.change_feed import announce
from meshca.database import metadata, reading
from meshca.errors import Conflict, NotFound
from rotation.propagation import Holder
from rotation.replicas import forget_confirmations
from rotation.stages import ENDED, Stage, Standing

AUTHORITIES_CHANGED: Final = "authorities"
"""The kind of change that replicas hear of when an authority or a root has changed."""

_OF_THE_CERTIFICATE = ("replica", "not_before", "not_after", "root_sha256", "chain")
_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

authorities = sa.Table(
    "authorities",
    metadata,
    sa.Column("authority_id", sa.Text, primary_key=True),
    sa.Column("replica", sa.Text, nullable=False, index=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("not_before", _BIG, nullable=False),
    sa.Column("not_after", _BIG, nullable=False),
    sa.Column("prepared_at", _BIG, nullable=False),
    sa.Column("since", _BIG, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("root_sha256", sa.Text, nullable=False, index=True),
    sa.Column("chain", sa.Text, nullable=False),
    sa.Column("key", sa.LargeBinary, nullable=True),
    sa.Column("at_issuer", sa.Text, nullable=False, server_default=""),
)


@dataclass(frozen=True, slots=True)
class NewAuthority:
    """An authority that was prepared: from now on it is in the table."""

    standing: Standing
    root_sha256: str
    chain_pem: str
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewChain:
    """Files bring an authority that is known: perhaps a new certificate, or another replica's."""

    new: NewAuthority


@dataclass(frozen=True, slots=True)
class StageChange:
    """An authority goes from stage `before` to `after`."""

    authority_id: str
    before: Stage
    after: Stage
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class AtIssuer:
    """What became of a revoked authority at its issuer; `text` is for people, and final."""

    authority_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """One authority as stored; `chain` begins with its certificate and ends below the root.

    `at_issuer`: whether its issuer has revoked it, in words; empty while that is not settled.
    """

    standing: Standing
    prepared_at: datetime
    root_sha256: str
    chain: tuple[x509.Certificate, ...]
    key: bytes | None
    at_issuer: str = ""


class Change(Protocol):
    """A step from one stage to another; stages are texts."""

    @property
    def before(self) -> str:
        """Return the stage it was decided on."""
        ...

    @property
    def after(self) -> str:
        """Return the stage it leads to."""
        ...

    @property
    def at(self) -> datetime:
        """Return when."""
        ...

    @property
    def reason(self) -> str:
        """Return why."""
        ...


def change_stage(
    connection: sa.Connection, named: sa.Column[Any], name: str, change: Change, **more: object
) -> None:
    """Take `change` for the row where `named` is `name`, and set `more` of its columns.

    Raises Conflict when the row is not in the stage that the change was decided on.
    """
    table = named.table
    update = (
        sa.update(table)
        .where(named == name, table.c.stage == str(change.before))
        .values(stage=str(change.after), since=_seconds(change.at), reason=change.reason, **more)
    )
    if connection.execute(update).rowcount != 1:
        raise Conflict(
            f"{name} is not {change.before} any more: somebody else changed it; "
            "look again with `meshca ca show`"
        )


class NewAuthoritySink:
    """Writes new authorities."""

    def write(self, connection: sa.Connection, records: Sequence[NewAuthority]) -> None:
        """Insert one row each."""
        connection.execute(sa.insert(authorities), [_values(record) for record in records])
        announce(connection, AUTHORITIES_CHANGED)


class NewChainSink:
    """Replaces certificates, and whose they are; stages and keys stay."""

    def write(self, connection: sa.Connection, records: Sequence[NewChain]) -> None:
        """Update one row each."""
        for record in records:
            values = _values(record.new)
            connection.execute(
                sa.update(authorities)
                .where(authorities.c.authority_id == values["authority_id"])
                .values({name: values[name] for name in _OF_THE_CERTIFICATE})
            )


class StageChangeSink:
    """Changes stages, each only from the stage it was decided on."""

    def write(self, connection: sa.Connection, records: Sequence[StageChange]) -> None:
        """Update one row each; raises Conflict when a row is not in the stage expected of it."""
        for change in records:
            # What may not sign again needs no key.
            keyless = change.after in ENDED or change.after is Stage.TAINTED
            change_stage(
                connection,
                authorities.c.authority_id,
                change.authority_id,
                change,
                **({"key": None} if keyless else {}),
            )
            if change.after is not Stage.ACTIVE:
                forget_confirmations(connection, change.authority_id)
        announce(connection, AUTHORITIES_CHANGED)


class AtIssuerSink:
    """Writes what became of revoked authorities at their issuers."""

    def write(self, connection: sa.Connection, records: Sequence[AtIssuer]) -> None:
        """Update one row each."""
        for record in records:
            connection.execute(
                sa.update(authorities)
                .where(authorities.c.authority_id == record.authority_id)
                .values(at_issuer=record.text)
            )


def new_authority(
    authority: Authority, *, replica: str, at: datetime, reason: str, key: bytes | None
) -> NewAuthority:
    """Return the record of a prepared `authority`; `key` is wrapped, or None to keep none."""
    standing = Standing(
        authority.authority_id,
        replica,
        Stage.PREPARED,
        max(authority.not_before, authority.certificate.not_valid_before_utc),
        authority.not_after,
        at,
        reason,
    )
    chain = b"".join(authority.chain_pem).decode()
    return NewAuthority(standing, root_id(authority.root), chain, key)


def root_id(root: x509.Certificate) -> str:
    """Return the SHA-256 of a root certificate, in hex: how roots are named."""
    return root.fingerprint(hashes.SHA256()).hex()


@dataclass(frozen=True, slots=True)
class Standings:
    """Reads of the authorities table."""

    engine: sa.Engine

    def of(self, replica: str | None = None, *, with_ended: bool = True) -> list[Row]:
        """Return the authorities of `replica`, or of all, the newest first."""
        query = sa.select(authorities).order_by(
            authorities.c.prepared_at.desc(), authorities.c.authority_id
        )
        if replica is not None:
            query = query.where(authorities.c.replica == replica)
        if not with_ended:
            query = query.where(authorities.c.stage.not_in([stage.value for stage in ENDED]))
        with reading(self.engine) as connection:
            return [_row(row) for row in connection.execute(query)]

    def unsettled(self) -> list[Row]:
        """Return the revoked authorities that their issuer is still to be told of."""
        c = authorities.c
        query = sa.select(authorities).where(c.stage == Stage.REVOKED.value, c.at_issuer == "")
        with reading(self.engine) as connection:
            return [_row(row) for row in connection.execute(query)]

    def barred(self) -> list[str]:
        """Return the authorities that must not sign, whoever has their keys."""
        query = sa.select(authorities.c.authority_id).where(
            authorities.c.stage.in_([Stage.TAINTED.value, Stage.REVOKED.value])
        )
        with reading(self.engine) as connection:
            return list(connection.execute(query).scalars())

    def get(self, authority_id: str) -> Row:
        """Return one authority; raises NotFound."""
        row = self.find(authority_id)
        if row is None:
            raise NotFound(f"there is no authority {authority_id}; see `meshca ca show`")
        return row

    def find(self, authority_id: str) -> Row | None:
        """Return one authority, or None when it is not known."""
        query = sa.select(authorities).where(authorities.c.authority_id == authority_id)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _row(row)

    def holders(self, now: datetime) -> list[Holder]:
        """Return the workloads that hold a live certificate of ours, but for ourselves."""
        c = certificates.c
        instance = sa.case((c.pod_uid != "", c.pod_uid), else_=c.token_id).label("instance")
        query = (
            sa.select(c.spiffe_id, c.cluster, instance, c.pod_name, sa.func.max(c.not_after))
            .where(c.not_after > _seconds(now), c.method != "self")
            .group_by(c.spiffe_id, c.cluster, instance, c.pod_name)
            .order_by(c.spiffe_id, c.pod_name)
        )
        with reading(self.engine) as connection:
            return [
                Holder(f"{who}|{cluster}|{uid}", who, pod, _instant(until))
                for who, cluster, uid, pod, until in connection.execute(query)
            ]

    def count_live(self, authority_ids: Iterable[str], now: datetime) -> int:
        """Return how many certificates under any of them have not ended."""
        c = certificates.c
        query = sa.select(sa.func.count()).where(
            c.authority_id.in_(list(authority_ids)), c.not_after > _seconds(now)
        )
        with reading(self.engine) as connection:
            return int(connection.execute(query).scalar_one())

    def live_until(self, authority_ids: Iterable[str]) -> dict[str, datetime]:
        """Return when the last certificate ends under each that has issued any."""
        last = sa.select(sa.func.max(certificates.c.not_after))
        found = {}
        with reading(self.engine) as connection:
            for name in authority_ids:  # each is one look into the index
                query = last.where(certificates.c.authority_id == name)
                seconds = connection.execute(query).scalar()
                if seconds is not None:
                    found[name] = _instant(seconds)
        return found


def _values(new: NewAuthority) -> dict[str, Any]:
    s = new.standing
    return {
        "authority_id": s.authority_id,
        "replica": s.replica,
        "stage": s.stage.value,
        "not_before": _seconds(s.not_before),
        "not_after": _seconds(s.not_after),
        "prepared_at": _seconds(s.since),
        "since": _seconds(s.since),
        "reason": s.reason,
        "root_sha256": new.root_sha256,
        "chain": new.chain_pem,
        "key": new.key,
    }


def _row(row: sa.Row[Any]) -> Row:
    r = row._mapping
    standing = Standing(
        r["authority_id"],
        r["replica"],
        Stage(r["stage"]),
        _instant(r["not_before"]),
        _instant(r["not_after"]),
        _instant(r["since"]),
        r["reason"],
    )
    chain = tuple(x509.load_pem_x509_certificates(r["chain"].encode()))
    return Row(
        standing, _instant(r["prepared_at"]), r["root_sha256"], chain, r["key"], r["at_issuer"]
    )


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
