"""Decision records: in full, counted by the minute, and what could not be kept."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Create the tables."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "decision_records",
        sa.Column("id", number, primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False, index=True),
        *_operation(),
        sa.Column("sni", sa.Text, nullable=False),
        sa.Column("source_ip", sa.Text, nullable=False),
        sa.Column("remote_ip", sa.Text, nullable=False),
        sa.Column("door", sa.Text, nullable=False),
        sa.Column("shadow", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_table(
        "decision_minutes",
        sa.Column("id", number, primary_key=True),
        sa.Column("minute", sa.BigInteger, nullable=False, index=True),
        *_operation(),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("first_us", sa.BigInteger, nullable=False),
        sa.Column("last_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "decision_gaps",
        sa.Column("id", number, primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
    )


def _operation() -> list[sa.Column[object]]:
    return [
        sa.Column("source", sa.Text, nullable=False, index=True),
        sa.Column("destination", sa.Text, nullable=False, index=True),
        sa.Column("namespace", sa.Text, nullable=False, index=True),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("port", sa.Integer, nullable=True),
        sa.Column("method", sa.Text, nullable=True),
        sa.Column("path", sa.Text, nullable=True),
        sa.Column("host", sa.Text, nullable=True),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("rule", sa.Integer, nullable=True),
    ]
