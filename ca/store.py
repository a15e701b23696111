"""The inventory of certificates: written before signing, marked once signed, read by filter."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import sqlalchemy as sa

from audit.entry import Entry
from audit.log import EntrySink
from identity.caller import Evidence
from meshca.database import bulk_insert, chunks, metadata, reading
from meshca.errors import NotFound

INTENT = "intent"
ISSUED = "issued"

certificates = sa.Table(
    "certificates",
    metadata,
    sa.Column(
        "id",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("serial", sa.Text, nullable=False, unique=True),
    sa.Column("spiffe_id", sa.Text, nullable=False),
    sa.Column("authority_id", sa.Text, nullable=False),
    sa.Column("key_sha256", sa.Text, nullable=False),
    sa.Column("not_before", sa.BigInteger, nullable=False),
    sa.Column("not_after", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("method", sa.Text, nullable=False),
    sa.Column("cluster", sa.Text, nullable=False),
    sa.Column("namespace", sa.Text, nullable=False),
    sa.Column("service_account", sa.Text, nullable=False),
    sa.Column("pod_name", sa.Text, nullable=False),
    sa.Column("pod_uid", sa.Text, nullable=False),
    sa.Column("node", sa.Text, nullable=False),
    sa.Column("token_id", sa.Text, nullable=False),
    sa.Column("certificate", sa.LargeBinary, nullable=True),
    sa.Column("log_index", sa.BigInteger, nullable=True),  # the audit entry of its issuance
    sa.Column("fingerprint", sa.LargeBinary, nullable=True),  # the SHA-256 of `certificate`
    sa.Index("ix_certificates_identity", "spiffe_id", "id"),
    sa.Index("ix_certificates_authority", "authority_id", "not_after"),
    sa.Index("ix_certificates_fingerprint", "fingerprint"),
)


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be signed, recorded before it is: the durable half of invariant 2."""

    serial: str
    spiffe_id: str
    authority_id: str
    key_sha256: str
    not_before: datetime
    not_after: datetime
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Planned:
    """An intent with the audit entry of its issuance, which the inventory names."""

    intent: Intent
    entry: Entry


@dataclass(frozen=True, slots=True)
class Signed:
    """The signature followed: `certificate` is the DER of the issued certificate."""

    serial: str
    certificate: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """One certificate of the inventory; `status` is `intent` when the signature is not recorded.

    An intent must be treated as a certificate that may exist. `id` grows with each record: the
    cursor of `Inventory.list`. `log_index` is the audit entry of the issuance.
    """

    intent: Intent
    status: str
    certificate: bytes | None
    id: int = 0
    log_index: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedSink:
    """Writes intents as new rows, and their entries to `log`."""

    log: EntrySink

    def write(self, connection: sa.Connection, records: Sequence[Planned]) -> None:
        """Append one entry and insert one row an intent."""
        indexes = self.log.append(connection, [record.entry for record in records])
        insert(connection, [record.intent for record in records], indexes)


def insert(
    connection: sa.Connection, intents: Sequence[Intent], indexes: Sequence[int | None]
) -> None:
    """Insert one row an intent; `indexes` are those of their audit entries."""
    rows = [_row(intent, index) for intent, index in zip(intents, indexes, strict=True)]
    bulk_insert(connection, certificates, rows)


class SignedSink:
    """Completes rows whose signature followed."""

    def write(self, connection: sa.Connection, records: Sequence[Signed]) -> None:
        """Store each certificate with its intent, many to a statement."""
        placeholder = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        for chunk in chunks(records):
            values = tuple(
                value
                for signed in chunk
                for value in (
                    signed.serial,
                    signed.certificate,
                    sha256(signed.certificate).digest(),
                )
            )
            connection.exec_driver_sql(_completion(len(chunk), placeholder), values)


@functools.lru_cache(maxsize=16)
def _completion(rows: int, placeholder: str) -> str:
    values = ",".join([f"({placeholder},{placeholder},{placeholder})"] * rows)
    return (
        f"WITH signed(serial, der, hash) AS (VALUES {values}) "  # noqa: S608  # placeholders only
        "UPDATE certificates SET status = 'issued', certificate = signed.der, "
        "fingerprint = signed.hash "
        "FROM signed WHERE certificates.serial = signed.serial"
    )


def _row(intent: Intent, log_index: int | None) -> tuple[str | int | bytes | None, ...]:
    e = intent.evidence
    return (
        intent.serial,
        intent.spiffe_id,
        intent.authority_id,
        intent.key_sha256,
        int(intent.not_before.timestamp()),
        int(intent.not_after.timestamp()),
        INTENT,
        e.method,
        e.cluster,
        e.namespace,
        e.service_account,
        e.pod_name,
        e.pod_uid,
        e.node,
        e.token_id,
        None,
        log_index,
        None,
    )


@dataclass(frozen=True, slots=True)
class Filter:
    """Which certificates to list; None means "any".

    `serial` in hex without leading zeros, `fingerprint` the SHA-256 of the DER in hex.
    """

    spiffe_id: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    service_account: str | None = None
    pod_uid: str | None = None
    node: str | None = None
    token_id: str | None = None
    serial: str | None = None
    fingerprint: str | None = None
    authority_id: str | None = None
    live_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """Reads of the certificates table."""

    engine: sa.Engine

    def get(self, serial: str) -> Record:
        """Return the certificate with `serial` (hex, case and colons ignored).

        Raises NotFound, and StoreUnavailable.
        """
        wanted = serial.replace(":", "").lower().lstrip("0")
        query = sa.select(certificates).where(certificates.c.serial == wanted)
        with reading(self.engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"no certificate with serial {wanted} was issued here")
        return _record(row)

    def list(
        self, wanted: Filter, *, limit: int = 100, before_id: int | None = None
    ) -> list[Record]:
        """Return at most `limit` certificates, the newest first; raises StoreUnavailable."""
        query = _query(wanted).order_by(certificates.c.id.desc()).limit(limit)
        if before_id is not None:
            query = query.where(certificates.c.id < before_id)
        with reading(self.engine) as connection:
            return [_record(row) for row in connection.execute(query)]

    def identities(self) -> frozenset[str]:
        """Return every SPIFFE ID that a certificate was issued for; raises StoreUnavailable."""
        query = sa.select(certificates.c.spiffe_id).distinct()
        with reading(self.engine) as connection:
            return frozenset(connection.execute(query).scalars())


_COLUMNS: Final = (
    "spiffe_id",
    "cluster",
    "namespace",
    "service_account",
    "pod_uid",
    "node",
    "token_id",
    "serial",
    "authority_id",
)


def _query(wanted: Filter) -> sa.Select[Any]:
    query = sa.select(certificates)
    for name in _COLUMNS:
        if (value := getattr(wanted, name)) is not None:
            query = query.where(certificates.c[name] == value)
    if wanted.live_at is not None:
        query = query.where(certificates.c.not_after > int(wanted.live_at.timestamp()))
    if wanted.fingerprint is not None:
        query = query.where(certificates.c.fingerprint == bytes.fromhex(wanted.fingerprint))
    return query


def _record(row: sa.Row[tuple[object, ...]]) -> Record:
    r = row._mapping
    evidence = Evidence(
        method=r["method"],
        cluster=r["cluster"],
        namespace=r["namespace"],
        service_account=r["service_account"],
        pod_name=r["pod_name"],
        pod_uid=r["pod_uid"],
        node=r["node"],
        token_id=r["token_id"],
    )
    intent = Intent(
        serial=r["serial"],
        spiffe_id=r["spiffe_id"],
        authority_id=r["authority_id"],
        key_sha256=r["key_sha256"],
        not_before=datetime.fromtimestamp(r["not_before"], UTC),
        not_after=datetime.fromtimestamp(r["not_after"], UTC),
        evidence=evidence,
    )
    return Record(intent, r["status"], r["certificate"], r["id"], r["log_index"])
