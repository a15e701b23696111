"""The authorities and roots with their stages; certificates are found by who signed them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables and the index."""
    op.create_table(
        "authorities",
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
    )
    op.create_index("ix_certificates_authority", "certificates", ["authority_id", "not_after"])
    op.create_table(
        "roots",
        sa.Column("root_sha256", sa.Text, primary_key=True),
        sa.Column("number", sa.Integer, nullable=False, unique=True),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("since", _BIG, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("waived", sa.Text, nullable=False),
    )
