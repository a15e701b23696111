"""The Merkle tree, held to the recursive definitions of RFC 6962."""

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import (
    EMPTY_ROOT,
    Frontier,
    HashAt,
    consistency_proof,
    first_root,
    frontier_at,
    inclusion_proof,
    leaf_hash,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from tests.audit.naive import naive_path, naive_proof, naive_root

LEAVES = [leaf_hash(bytes([n % 251, n // 251])) for n in range(600)]
SIZES = st.integers(0, 130)


def at(leaves: Sequence[bytes]) -> HashAt:
    """Return complete subtrees of `leaves`."""

    def hash_at(level: int, position: int) -> bytes:
        start = position << level
        assert start + (1 << level) <= len(leaves), "only complete subtrees are asked for"
        return naive_root(leaves[start : start + (1 << level)])

    return hash_at


def test_the_hashes_are_those_of_the_rfc() -> None:
    assert sha256().digest() == EMPTY_ROOT == Frontier().root()
    assert leaf_hash(b"") == bytes.fromhex(
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )


@given(SIZES, SIZES)
def test_roots_frontiers_and_proofs_are_those_of_the_definition(old: int, more: int) -> None:
    new = old + more
    leaves = LEAVES[:new]
    assert root_at(new, at(leaves)) == naive_root(leaves)
    grown, _ = frontier_at(old, at(leaves)).extended(leaves[old:])
    assert grown == frontier_at(new, at(leaves))
    assert Frontier.from_bytes(new, grown.to_bytes()) == grown
    proof = consistency_proof(old, new, at(leaves))
    assert proof == ([] if old == 0 else naive_proof(old, leaves))
    roots = naive_root(leaves[:old]), naive_root(leaves)
    assert verify_consistency(old, new, *roots, proof)
    in_proof = 0 < old < new and old.bit_count() > 1
    assert first_root(old, new, roots[1], proof) == (roots[0] if in_proof else None)


@given(st.integers(1, 130), st.data())
def test_every_leaf_is_proven(size: int, data: st.DataObject) -> None:
    leaves, index = LEAVES[:size], data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, at(leaves))
    assert proof == naive_path(index, leaves)
    assert verify_inclusion(index, size, leaves[index], proof, naive_root(leaves))


@given(st.integers(2, 60), st.data())
def test_nothing_else_is_proven(size: int, data: st.DataObject) -> None:
    leaves, root = LEAVES[:size], naive_root(LEAVES[:size])
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size + 3).filter(lambda n: n != index))
    proof = naive_path(index, leaves)
    wrong = [*proof]
    wrong[data.draw(st.integers(0, len(proof) - 1))] = bytes(32)
    assert not verify_inclusion(other, size, leaves[index], proof, root)
    assert not verify_inclusion(index, size, bytes(32), proof, root)
    assert not verify_inclusion(index, size, leaves[index], wrong, root)
    assert not verify_inclusion(index, size, leaves[index], proof[:-1], root)
    assert not verify_inclusion(index, size, leaves[index], [*proof, bytes(32)], root)
    assert not verify_inclusion(-1, size, leaves[index], proof, root)


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_no_other_growth_is_proven(old: int, more: int, data: st.DataObject) -> None:
    new = old + more
    roots = naive_root(LEAVES[:old]), naive_root(LEAVES[:new])
    proof = naive_proof(old, LEAVES[:new])
    wrong = [*proof]
    wrong[data.draw(st.integers(0, len(proof) - 1))] = bytes(32)
    assert not verify_consistency(old, new, *roots, wrong)
    assert not verify_consistency(old, new, *roots, proof[:-1])
    assert not verify_consistency(old, new, *roots, [*proof, bytes(32)])
    assert not verify_consistency(old, new, bytes(32), roots[1], proof)
    assert not verify_consistency(old, new, roots[0], bytes(32), proof)
    assert not verify_consistency(new, old, *roots, proof)
    assert not verify_consistency(old, old, *roots, [])
    for other in (wrong, proof[:-1], [*proof, bytes(32)], []):
        assert first_root(old, new, roots[1], other) is None


def test_the_tiles_to_keep_are_named() -> None:
    frontier, nodes = Frontier().extended(LEAVES[:255])
    assert nodes == []
    frontier, nodes = frontier.extended(LEAVES[255:520])
    assert nodes == [(8, 0, naive_root(LEAVES[:256])), (8, 1, naive_root(LEAVES[256:512]))]
    assert frontier.root() == naive_root(LEAVES[:520])


@pytest.mark.parametrize(("size", "text"), [(1, b""), (2, bytes(33)), (3, bytes(32)), (-1, b"")])
def test_what_is_no_frontier_is_refused(size: int, text: bytes) -> None:
    with pytest.raises(ValueError, match=r"no frontier|cut"):
        Frontier.from_bytes(size, text)


def test_there_is_no_proof_outside_the_tree() -> None:
    with pytest.raises(ValueError, match="no leaf 3 in a tree of 3"):
        inclusion_proof(3, 3, at(LEAVES))
    with pytest.raises(ValueError, match="no beginning"):
        consistency_proof(4, 3, at(LEAVES))
