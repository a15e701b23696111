"""The audit log as leaves of a Merkle tree; certificates name their entry.

What the chain of version 0.1 held becomes the first leaves, body for body.
"""

from hashlib import sha256

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_PAGE = 1_000
_NODE = sa.text("INSERT INTO audit_nodes (level, position, hash) VALUES (:level, :position, :hash)")


def upgrade() -> None:
    """Create the tables, and move the entries."""
    connection = op.get_bind()
    op.rename_table("audit_entries", "audit_chain")
    for column in ("time", "spiffe_id", "serial"):
        op.drop_index(f"ix_audit_entries_{column}", "audit_chain")
    _create(connection.dialect.name)
    _move(connection)
    op.drop_table("audit_chain")
    op.add_column("certificates", sa.Column("log_index", sa.BigInteger, nullable=True))


def _create(dialect: str) -> None:
    is_partitioned = dialect == "postgresql"
    key = ("leaf_index", "time") if is_partitioned else ("leaf_index",)
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "audit_entries",
        sa.Column("leaf_index", big, autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
        sa.Column("body", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint(*key, name="pk_audit_entries"),
        postgresql_partition_by="RANGE (time)",
    )
    if is_partitioned:
        op.execute("CREATE TABLE audit_entries_default PARTITION OF audit_entries DEFAULT")
    op.create_table(
        "audit_nodes",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("frontier", sa.LargeBinary, nullable=False),
    )


def _move(connection: sa.Connection) -> None:
    page = sa.text(
        "SELECT time, kind, body FROM audit_chain WHERE sequence > :last"
        " ORDER BY sequence LIMIT :count"
    )
    entry = sa.text(
        "INSERT INTO audit_entries (leaf_index, time, kind, leaf_hash, body)"
        " VALUES (:index, :time, :kind, :leaf, :body)"
    )
    size = 0
    frontier: list[bytes] = []
    while rows := connection.execute(page, {"last": size, "count": _PAGE}).all():
        for row in rows:
            leaf = sha256(b"\x00" + row.body.encode()).digest()
            values = {"index": size, "time": row.time, "kind": row.kind, "leaf": leaf}
            connection.execute(entry, {**values, "body": row.body})
            _append(connection, frontier, size, leaf)
            size += 1
    head = sa.text("INSERT INTO audit_head (id, size, frontier) VALUES (1, :size, :frontier)")
    connection.execute(head, {"size": size, "frontier": b"".join(frontier)})


def _append(connection: sa.Connection, frontier: list[bytes], size: int, leaf: bytes) -> None:
    """Append a leaf as audit/merkle.py does; what it does may change, what this does may not."""
    node, rest, level = leaf, size, 0
    while rest & 1:
        node = sha256(b"\x01" + frontier.pop() + node).digest()
        rest, level = rest >> 1, level + 1
        if level % 8 == 0:
            values = {"level": level, "position": rest, "hash": node}
            text = (
                "INSERT INTO audit_nodes (level, position, hash) VALUES (:level, :position, :hash)"
            )
            connection.execute(sa.text(text), values)
    frontier.append(node)
