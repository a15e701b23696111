"""RFC 6962 section 2.1 as it is written, recursive and slow: what audit/merkle.py is held to."""

from collections.abc import Sequence
from hashlib import sha256


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """Return MTH over leaf hashes."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = largest_power_below(len(leaves))
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(index: int, leaves: Sequence[bytes]) -> list[bytes]:
    """Return PATH(index, leaves), section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    if index < k:
        return [*naive_path(index, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(index - k, leaves[k:]), naive_root(leaves[:k])]


def naive_proof(old: int, leaves: Sequence[bytes], *, is_whole: bool = True) -> list[bytes]:
    """Return SUBPROOF(old, leaves, is_whole), section 2.1.2."""
    if old == len(leaves):
        return [] if is_whole else [naive_root(leaves)]
    k = largest_power_below(len(leaves))
    if old <= k:
        return [*naive_proof(old, leaves[:k], is_whole=is_whole), naive_root(leaves[k:])]
    return [*naive_proof(old - k, leaves[k:], is_whole=False), naive_root(leaves[:k])]


def largest_power_below(count: int) -> int:
    """Return the largest power of two smaller than `count`."""
    k = 1
    while k * 2 < count:
        k *= 2
    return k
