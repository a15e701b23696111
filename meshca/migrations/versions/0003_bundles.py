"""Numbers of our trust bundle, and the trust domains that we federate with."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "bundle_versions",
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "federated_domains",
        sa.Column("trust_domain", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("changed_at", sa.BigInteger, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("profile", sa.Text, nullable=False),
        sa.Column("endpoint_id", sa.Text, nullable=False),
        sa.Column("web_roots", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=True),
        sa.Column("document", sa.LargeBinary, nullable=True),
        sa.Column("fetched_at", sa.BigInteger, nullable=True),
    )
