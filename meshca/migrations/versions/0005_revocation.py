"""Revocations, the decisions behind them, bans, revocation lists, and when each took effect."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "revocation_decisions",
        sa.Column("decision", sa.Text, primary_key=True),
        sa.Column("decided_at_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("reason", sa.Integer, nullable=False),
        sa.Column("selector", sa.Text, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("last_certificate", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "revocations",
        sa.Column("serial", sa.Text, primary_key=True),
        sa.Column("decision", sa.Text, nullable=False, index=True),
        sa.Column("authority_id", sa.Text, nullable=False),
        sa.Column("spiffe_id", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Integer, nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=False),
        sa.Column("released_at", sa.BigInteger, nullable=True),
        sa.Column("revision", sa.BigInteger, nullable=False, index=True),
    )
    op.create_table(
        "bans",
        sa.Column("ban", sa.Text, primary_key=True),
        sa.Column("selector", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=True),
        sa.Column("lifted_at", sa.BigInteger, nullable=True),
    )
    op.create_table(
        "crls",
        sa.Column("authority_id", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("this_update", sa.BigInteger, nullable=False),
        sa.Column("next_update", sa.BigInteger, nullable=False),
        sa.Column("signed_at_us", sa.BigInteger, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "revocation_effects",
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("replica", sa.Text, primary_key=True),
        sa.Column("pushed_at_us", sa.BigInteger, nullable=False),
        sa.Column("proxies", sa.Integer, nullable=False),
        sa.Column("acknowledged", sa.Integer, nullable=False),
        sa.Column("last_at_us", sa.BigInteger, nullable=True),
        sa.Column("is_complete", sa.Boolean, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
    )
