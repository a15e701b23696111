"""The certificates of an identity, in the order in which they were issued, by one index."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Change the index."""
    op.create_index("ix_certificates_identity", "certificates", ["spiffe_id", "id"])
    op.drop_index("ix_certificates_spiffe_id", "certificates")
