"""The stored tree: every subtree as RFC 6962 has it, few reads, no root where a hash is missing."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from audit.log import Log
from audit.merkle import inclusion_proof, root_at
from audit.tree import StoredTree
from meshca.errors import EvidenceBroken
from tests.audit.index.world import append, entries
from tests.audit.naive import naive_root
from tests.audit.tampering import execute

SIZE = 700
"""Two tiles of 256 leaves, and a part of one."""


@pytest.fixture
def connection(both_engines: sa.Engine) -> Iterator[sa.Connection]:
    append(both_engines, entries(0, SIZE))
    with both_engines.connect() as connection:
        yield connection


def leaves(connection: sa.Connection) -> list[bytes]:
    return [stored.leaf_hash for stored in Log(connection.engine).entries()]


def test_every_complete_subtree_has_the_root_of_its_leaves(connection: sa.Connection) -> None:
    tree, hashes = StoredTree(connection), leaves(connection)
    for level in range(SIZE.bit_length()):
        for position in range(SIZE >> level):
            under = hashes[position << level : (position + 1) << level]
            assert tree.hash_at(level, position) == naive_root(under)


def test_a_proof_reads_each_tile_once(connection: sa.Connection) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            statements.append(statement)

    sa.event.listen(connection, "before_cursor_execute", note)
    inclusion_proof(3, SIZE, StoredTree(connection).hash_at)
    assert len(statements) == 3, "its own tile of leaves, the last one, and the nodes above"


@pytest.mark.parametrize("missing", [0, 255, 256, 300, SIZE - 1])
def test_no_root_is_made_over_a_missing_leaf(connection: sa.Connection, missing: int) -> None:
    execute(connection.engine, "DELETE FROM audit_entries WHERE leaf_index = :at", at=missing)
    tree = StoredTree(connection)
    with pytest.raises(EvidenceBroken, match=f"at entry {missing} or after it") as raised:
        tree.hash_at(0, missing)
    assert raised.value.index == missing
    with pytest.raises(EvidenceBroken):
        tree.hash_at(2, missing // 4)
    assert missing % 256 == 0 or tree.hash_at(0, missing // 256 * 256)


def test_no_root_is_made_over_a_cut_leaf(connection: sa.Connection) -> None:
    execute(
        connection.engine,
        "UPDATE audit_entries SET leaf_hash = :cut WHERE leaf_index = 9",
        cut=b"\x01" * 31,
    )
    with pytest.raises(EvidenceBroken, match="at entry 8 or after it"):
        StoredTree(connection).hash_at(1, 4)


def test_no_root_is_made_over_a_missing_node(connection: sa.Connection) -> None:
    execute(connection.engine, "DELETE FROM audit_nodes WHERE level = 8 AND position = 0")
    with pytest.raises(EvidenceBroken, match="at entry 0 or after it"):
        root_at(512, StoredTree(connection).hash_at)
