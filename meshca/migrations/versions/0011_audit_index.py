"""The search index of the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Create the tables; what the log holds is indexed by the server."""
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit_segments",
        sa.Column("id", big, primary_key=True, autoincrement=False),
        sa.Column("first", sa.BigInteger, nullable=False),
        sa.Column("entries", sa.BigInteger, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("redactions", sa.BigInteger, nullable=False),
        sa.Column("minimum_time", sa.BigInteger, nullable=False),
        sa.Column("maximum_time", sa.BigInteger, nullable=False),
        sa.Column("times", sa.Text, nullable=False),
        sa.Column("named", sa.Text, nullable=False),
    )
    op.create_table(
        "audit_postings",
        sa.Column("segment", big, primary_key=True, autoincrement=False),
        sa.Column("block", big, primary_key=True, autoincrement=False),
        sa.Column("lists", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
