"""Responders of replicas, and who has certified which of them to answer."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "ocsp_responders",
        sa.Column("replica", sa.Text, primary_key=True),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "ocsp_delegations",
        sa.Column("authority_id", sa.Text, primary_key=True),
        sa.Column("key_sha256", sa.Text, primary_key=True),
        sa.Column("issuer", sa.LargeBinary, nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
    )
