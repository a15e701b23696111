"""What the log commits to by signature, and the keys that sign."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "audit_checkpoints",
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("keys", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_table(
        "audit_log_keys",
        sa.Column("verifier", sa.Text, primary_key=True),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("replica", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("introduced_at", sa.BigInteger, nullable=False),
        sa.Column("retires_at", sa.BigInteger, nullable=True),
    )
