"""The Merkle tree of RFC 6962 section 2.1: roots, proofs, and their verification. Pure.

    MTH({})     = SHA-256()
    MTH({d})    = SHA-256(0x00 || d)
    MTH(D[0:n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n])),  k the largest power of two below n

A tree is known by the hashes of its complete subtrees: `HashAt(level, position)` returns the root
of the 2^level leaves that begin at position * 2^level. Who appends needs the few of them that
cover the tree (`Frontier`), who proves asks for those on the path. Leaves are counted from 0.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from itertools import pairwise
from typing import Final

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = sha256(b"").digest()
TILE_LEVELS: Final = 8
"""Nodes are worth keeping at every eighth level only: those between are quickly made again."""

HashAt = Callable[[int, int], bytes]
"""Returns the root of a complete subtree, by level and position."""

Node = tuple[int, int, bytes]
"""A complete subtree: level, position, root."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over `hashes`, whose number is a power of two."""
    row = list(hashes)
    while len(row) > 1:
        row = [
            sha256(b"\x01" + left + right).digest()
            for left, right in zip(row[::2], row[1::2], strict=True)
        ]
    return row[0]


@dataclass(frozen=True, slots=True)
class Frontier:
    """What is needed to append to a tree of `size` leaves.

    `hashes` are the roots of its complete subtrees, one for each bit of `size`, the largest first.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if self.size < 0 or len(self.hashes) != self.size.bit_count():
            raise ValueError(f"{len(self.hashes)} hashes are no frontier of {self.size} leaves")

    def root(self) -> bytes:
        """Return the tree's root."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def extended(self, leaves: Iterable[bytes]) -> tuple["Frontier", list[Node]]:
        """Return the frontier with `leaves` (hashes) appended, and the nodes to keep from them.

        Those are the subtrees completed on the way whose level is a multiple of TILE_LEVELS.
        """
        given, begun = list(leaves), 0
        hashes, size = list(self.hashes), self.size
        completed: list[Node] = []
        while begun < len(given):
            level = _level_of_run(size, len(given) - begun)
            node, rest = complete_root(given[begun : begun + (1 << level)]), size >> level
            begun, size = begun + (1 << level), size + (1 << level)
            if level == TILE_LEVELS:
                completed.append((level, rest, node))
            while rest & 1:
                node = sha256(b"\x01" + hashes.pop() + node).digest()
                rest >>= 1
                level += 1
                if not level % TILE_LEVELS:
                    completed.append((level, rest, node))
            hashes.append(node)
        return Frontier(size, tuple(hashes)), completed

    def joined(self, other: "Frontier") -> tuple["Frontier", list[Node]]:
        """Return the frontier of this tree's leaves and then `other`'s, and the nodes to keep.

        Those are as `extended` names them, from joining alone. Raises ValueError unless the size
        of this tree is a multiple of a power of two that `other` does not exceed.
        """
        size, hashes = self.size, list(self.hashes)
        lowest = size & -size if size else other.size
        if other.size > lowest:
            raise ValueError(f"{other.size} leaves cannot be laid beside {size} as they are")
        if not size or other.size < lowest:
            return Frontier(size + other.size, (*self.hashes, *other.hashes)), []
        (node,), level = other.hashes, other.size.bit_length() - 1
        rest, completed = size >> level, list[Node]()
        while rest & 1:
            node = node_hash(hashes.pop(), node)
            rest >>= 1
            level += 1
            if not level % TILE_LEVELS:
                completed.append((level, rest, node))
        return Frontier(size + other.size, (*hashes, node)), completed

    def to_bytes(self) -> bytes:
        """Return the hashes, one after another."""
        return b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, size: int, text: bytes) -> "Frontier":
        """Return the frontier of `to_bytes`; raises ValueError for anything else."""
        if len(text) % HASH_BYTES:
            raise ValueError("the hashes are cut")
        ends = range(0, len(text) + HASH_BYTES, HASH_BYTES)
        return cls(size, tuple(text[a:b] for a, b in pairwise(ends)))


def _level_of_run(size: int, given: int) -> int:
    """Return the level of the largest subtree, a tile at most, that `given` leaves begin there."""
    most = min(given, 1 << TILE_LEVELS).bit_length() - 1
    return min(most, (size & -size).bit_length() - 1) if size else most


def frontier_at(size: int, hash_at: HashAt) -> Frontier:
    """Return the frontier of the first `size` leaves."""
    return Frontier(size, tuple(hash_at(*node) for node in _cover(0, size)))


def root_at(size: int, hash_at: HashAt) -> bytes:
    """Return the root of the first `size` leaves."""
    return frontier_at(size, hash_at).root()


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> list[bytes]:
    """Return PATH(index, D[size]) of RFC 6962 section 2.1.1; raises ValueError outside the tree."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    start, stop = 0, size
    proof = []
    while stop - start > 1:
        split = start + _split(stop - start)
        if index < split:
            proof.append(_range_root(split, stop, hash_at))
            stop = split
        else:
            proof.append(_range_root(start, split, hash_at))
            start = split
    return proof[::-1]


def consistency_proof(old: int, new: int, hash_at: HashAt) -> list[bytes]:
    """Return PROOF(old, D[new]) of RFC 6962 section 2.1.2; empty for an empty or an equal tree.

    Raises ValueError if `old` is not from 0 to `new`.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} is no beginning of one of {new}")
    if old in (0, new):
        return []
    start, stop, is_known = 0, new, True
    proof = []
    while old != stop:
        split = start + _split(stop - start)
        if old <= split:
            proof.append(_range_root(split, stop, hash_at))
            stop = split
        else:
            proof.append(_range_root(start, split, hash_at))
            start, is_known = split, False
    if not is_known:
        proof.append(_range_root(start, stop, hash_at))
    return proof[::-1]


def verify_inclusion(
    index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes
) -> bool:
    """Return whether `proof` shows that leaf `index` of the tree hashes to `leaf`.

    RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size:
        return False
    first, last, made = index, size - 1, leaf
    for node in proof:
        if last == 0:
            return False
        if first & 1 or first == last:
            made = node_hash(node, made)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            made = node_hash(made, node)
        first, last = first >> 1, last >> 1
    return last == 0 and compare_digest(made, root)


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Return whether `proof` shows that the tree of `old` leaves begins that of `new`.

    RFC 9162 section 2.1.4.2. Every tree begins with the empty one.
    """
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and compare_digest(old_root, new_root)
    if old == 0:
        return not proof and compare_digest(old_root, EMPTY_ROOT)
    nodes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    roots = _grown(old, new, nodes)
    return roots is not None and all(map(compare_digest, roots, (old_root, new_root)))


def first_root(old: int, new: int, new_root: bytes, proof: Sequence[bytes]) -> bytes | None:
    """Return the root of the first `old` leaves of the tree `new_root`, if `proof` shows it.

    A consistency proof shows it by itself unless `old` is `new`, zero or a power of two.
    """
    if not 0 < old < new or old & (old - 1) == 0:
        return None
    roots = _grown(old, new, proof)
    return roots[0] if roots is not None and compare_digest(roots[1], new_root) else None


def _grown(old: int, new: int, nodes: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Return the roots of `old` and of `new` leaves that `nodes` come to, None if to none."""
    if not nodes:
        return None
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    made_old = made_new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return None
        if first & 1 or first == last:
            made_old, made_new = node_hash(node, made_old), node_hash(node, made_new)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            made_new = node_hash(made_new, node)
        first, last = first >> 1, last >> 1
    return (made_old, made_new) if last == 0 else None


def _split(count: int) -> int:
    """Return the largest power of two below `count`, which is at least 2."""
    return 1 << (count - 1).bit_length() - 1


def _cover(start: int, stop: int) -> list[tuple[int, int]]:
    """Return level and position of the complete subtrees of [start, stop), the largest first.

    `start` is a multiple of the largest.
    """
    nodes = []
    count = stop - start
    for level in reversed(range(count.bit_length())):
        if count >> level & 1:
            nodes.append((level, start >> level))
            start += 1 << level
    return nodes


def _range_root(start: int, stop: int, hash_at: HashAt) -> bytes:
    count = stop - start
    return Frontier(count, tuple(hash_at(*node) for node in _cover(start, stop))).root()
