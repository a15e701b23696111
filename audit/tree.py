"""The stored Merkle tree: its frontier, and the roots of its complete tiles.

`audit_head` is one row, read and written in each transaction that appends. `audit_nodes` has the
roots of the complete subtrees of 256, 65,536, ... leaves; leaf hashes stay with the entries. What
lies between is made again from at most 256 hashes that are read at once, so that a proof costs a
few reads whatever the size.
"""

from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from audit.merkle import HASH_BYTES, TILE_LEVELS, Frontier, Node, complete_root
from meshca.database import bulk_insert, metadata
from meshca.errors import EvidenceBroken

_ONE: Final = 1
_TILE: Final = 1 << TILE_LEVELS

audit_entries = sa.Table(
    "audit_entries",
    metadata,
    sa.Column(
        "leaf_index",
        sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
        primary_key=True,
        autoincrement=False,
    ),
    sa.Column("time", sa.BigInteger, nullable=False),  # microseconds since the epoch
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.Text, nullable=True),  # the leaf's data; NULL once it is redacted
    postgresql_partition_by="RANGE (time)",
)
"""On PostgreSQL the primary key is (leaf_index, time): it must hold what partitions are made by."""

audit_nodes = sa.Table(
    "audit_nodes",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

audit_head = sa.Table(
    "audit_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
)


_LEAVES: Final = sa.text(
    "SELECT leaf_index, leaf_hash FROM audit_entries"
    " WHERE leaf_index >= :start AND leaf_index < :stop ORDER BY leaf_index"
)
_NODES: Final = sa.text(
    "SELECT position, hash FROM audit_nodes"
    " WHERE level = :level AND position >= :start AND position < :stop ORDER BY position"
)


def read_frontier(connection: sa.Connection) -> Frontier:
    """Return where the tree ends; raises EvidenceBroken if what is stored is no frontier."""
    query = "SELECT size, frontier FROM audit_head WHERE id = 1"
    row = connection.exec_driver_sql(query).one_or_none()
    if row is None:
        return Frontier()
    try:
        return Frontier.from_bytes(row[0], bytes(row[1]))
    except ValueError as error:
        raise EvidenceBroken(0, f"the head of the log is broken: {error}") from error


def write_growth(connection: sa.Connection, frontier: Frontier, nodes: list[Node]) -> None:
    """Store the frontier after an append, and the tiles that it completed."""
    statement = (
        "INSERT INTO audit_head (id, size, frontier) VALUES (:id, :size, :frontier)"
        " ON CONFLICT (id) DO UPDATE SET size = excluded.size, frontier = excluded.frontier"
    )
    values = {"id": _ONE, "size": frontier.size, "frontier": frontier.to_bytes()}
    connection.execute(sa.text(statement), values)
    if nodes:
        bulk_insert(connection, audit_nodes, nodes)


@dataclass(slots=True)
class StoredTree:
    """The tree as `hash_at` of audit.merkle: reads tiles once, for as long as it is kept."""

    connection: sa.Connection
    _tiles: dict[tuple[int, int], list[bytes]] = field(default_factory=dict)

    def hash_at(self, level: int, position: int) -> bytes:
        """Return the root of a complete subtree; raises EvidenceBroken for one that is missing."""
        floor = level // TILE_LEVELS * TILE_LEVELS
        count = 1 << (level - floor)
        start = position * count
        tile, offset = divmod(start, _TILE)
        if (floor, tile) not in self._tiles:
            self._tiles[floor, tile] = self._read(floor, tile)
        hashes = self._tiles[floor, tile][offset : offset + count]
        if len(hashes) < count:
            leaf = start << floor
            raise EvidenceBroken(leaf, f"the log's tree has holes at entry {leaf} or after it")
        return complete_root(hashes)

    def _read(self, level: int, tile: int) -> list[bytes]:
        """Return the hashes of a tile, up to the first that is missing or none."""
        start = tile * _TILE
        between = {"start": start, "stop": start + _TILE}
        rows = (
            self.connection.execute(_NODES, {"level": level, **between})
            if level
            else self.connection.execute(_LEAVES, between)
        )
        hashes: list[bytes] = []
        for position, stored in rows:
            if position != start + len(hashes) or len(stored) != HASH_BYTES:
                break
            hashes.append(bytes(stored))
        return hashes
