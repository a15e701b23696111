"""Entries that a start looks for are found by an index, and certificates by their fingerprint."""

from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"

_PAGE = 1_000
_MILESTONES = "kind IN ('configuration', 'policy_change', 'server_start', 'server_stop')"


def upgrade() -> None:
    """Make both indexes, and fill in the fingerprints of what was issued before."""
    op.create_index(
        "ix_audit_entries_milestones",
        "audit_entries",
        ["kind", "leaf_index"],
        sqlite_where=sa.text(_MILESTONES),
        postgresql_where=sa.text(_MILESTONES),
    )
    op.add_column("certificates", sa.Column("fingerprint", sa.LargeBinary, nullable=True))
    _fill(op.get_bind())
    op.create_index("ix_certificates_fingerprint", "certificates", ["fingerprint"])


def _fill(connection: sa.Connection) -> None:
    page = sa.text(
        "SELECT id, certificate FROM certificates WHERE id > :last AND certificate IS NOT NULL"
        " ORDER BY id LIMIT :count"
    )
    fingerprint = sa.text("UPDATE certificates SET fingerprint = :hash WHERE id = :id")
    last = 0
    while rows := connection.execute(page, {"last": last, "count": _PAGE}).all():
        connection.execute(
            fingerprint,
            [{"id": row.id, "hash": sha256(bytes(row.certificate)).digest()} for row in rows],
        )
        last = rows[-1].id
