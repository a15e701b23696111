"""Proofs that a run of entries is in the log, whole and in its place. Pure.

A tree is a row of complete subtrees, and a `Row` is made by laying them side by side: leaf hashes
where the entries are at hand, and the root of a whole subtree where they are not. So the proof for
entries [start, stop) of a tree of `size` is the roots of the complete subtrees on their left,
`subtrees(0, start)`, and on their right, `subtrees(stop, size)`: about two times log2(size) hashes,
whatever the length of the run. Whoever lays left, run and right in a row must come to the root of
the checkpoint; then each entry is at its index, and none between the two ends is missing.

The left hashes stay the same as the log grows. The same works for a stretch inside a run whose
entries are not shown.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from audit.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    TILE_LEVELS,
    HashAt,
    Node,
    complete_root,
    node_hash,
)

_TILE: Final = 1 << TILE_LEVELS


def subtrees(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield level and position of the largest complete subtrees that make up [start, stop)."""
    while start < stop:
        longest = (stop - start).bit_length() - 1
        aligned = (start & -start).bit_length() - 1 if start else longest
        level = min(longest, aligned)
        yield level, start >> level
        start += 1 << level


def range_hashes(start: int, stop: int, hash_at: HashAt) -> list[bytes]:
    """Return the roots of `subtrees(start, stop)`: what stands for entries that are not shown."""
    return [hash_at(level, position) for level, position in subtrees(start, stop)]


class Row:
    """Complete subtrees side by side from leaf `start` on; equal neighbours grow together.

    What it holds at any time are the roots of `subtrees(start, stop)`.
    """

    __slots__ = ("_nodes", "start", "stop")

    def __init__(self, start: int = 0) -> None:
        """Begin an empty row at leaf `start`."""
        self.start = start
        self.stop = start
        self._nodes: list[tuple[int, bytes]] = []

    def add(self, level: int, root: bytes) -> None:
        """Lay the subtree of `level` with this root at the end; raises ValueError if none fits."""
        if self.stop & ((1 << level) - 1):
            raise ValueError(f"no subtree of level {level} begins at leaf {self.stop}")
        position = self.stop >> level
        self.stop += 1 << level
        nodes = self._nodes
        while position & 1 and nodes and nodes[-1][0] == level:
            root = sha256(b"\x01" + nodes.pop()[1] + root).digest()
            position >>= 1
            level += 1
        nodes.append((level, root))

    def extend(self, leaves: Sequence[bytes]) -> None:
        """Lay leaves (hashes) at the end."""
        at, count = 0, len(leaves)
        while at < count:
            if self.stop % _TILE == 0 and count - at >= _TILE:
                self.add(TILE_LEVELS, complete_root(leaves[at : at + _TILE]))
                at += _TILE
            else:
                self.add(0, leaves[at])
                at += 1

    def skip(self, stop: int, hashes: Sequence[bytes]) -> None:
        """Lay what stands for the leaves up to `stop`; raises ValueError unless it fits exactly."""
        places = list(subtrees(self.stop, stop))
        is_backwards = stop < self.stop
        if (
            is_backwards
            or len(places) != len(hashes)
            or any(len(one) != HASH_BYTES for one in hashes)
        ):
            raise ValueError(f"{len(hashes)} hashes do not stand for [{self.stop}, {stop})")
        for (level, _), root in zip(places, hashes, strict=True):
            self.add(level, root)

    def hashes(self) -> list[bytes]:
        """Return the roots of `subtrees(start, stop)`."""
        return [root for _, root in self._nodes]

    def nodes(self) -> list[Node]:
        """Return level, position and root of each subtree."""
        places = subtrees(self.start, self.stop)
        return [(*place, root) for place, root in zip(places, self.hashes(), strict=True)]

    def root(self) -> bytes:
        """Return the tree's root; raises ValueError unless the row begins at the first leaf."""
        if self.start:
            raise ValueError("a row that begins inside the tree has no root")
        if not self._nodes:
            return EMPTY_ROOT
        *rest, root = self.hashes()
        for left in reversed(rest):
            root = node_hash(left, root)
        return root


def verify_range(
    start: int,
    leaves: Sequence[bytes],
    size: int,
    left: Sequence[bytes],
    right: Sequence[bytes],
    root: bytes,
) -> bool:
    """Return whether `leaves` (hashes) are the entries from `start` on of the tree with `root`."""
    if not 0 <= start <= start + len(leaves) <= size:
        return False
    row = Row()
    try:
        row.skip(start, left)
        row.extend(leaves)
        row.skip(size, right)
    except ValueError:
        return False
    return compare_digest(row.root(), root)
