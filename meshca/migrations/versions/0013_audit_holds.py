"""Legal holds: what keeps entries' bodies from being redacted."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "audit_holds",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("placed_at", sa.BigInteger, nullable=False),
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
