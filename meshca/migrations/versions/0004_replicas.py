"""Replicas, who has what is waited for, what has changed, and revocation at the issuer."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables and the column."""
    op.create_table(
        "changes",
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "replicas",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("started_at", _BIG, nullable=False),
        sa.Column("seen_at", _BIG, nullable=False),
        sa.Column("report", sa.Text, nullable=False),
    )
    op.create_table(
        "confirmations",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, primary_key=True),
    )
    op.add_column(
        "authorities",
        sa.Column("at_issuer", sa.Text, nullable=False, server_default=""),
    )
