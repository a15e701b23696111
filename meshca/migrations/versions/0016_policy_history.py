"""Which set of policies was in force when."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "policy_texts",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "policy_history",
        sa.Column(
            "number",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("since", sa.BigInteger, nullable=False, index=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("options", sa.Text, nullable=False),
        sa.Column("members", sa.Text, nullable=False),
    )
