"""How the index is written down: lists of entries, and blocks of lists by key. Pure.

A list says which entries of a segment have a term: offsets from its first, 16 bits each, ascending;
or, where that is no longer, one bit an entry. Its size tells which of the two it is. A block holds
the lists of all keys that begin with the same bits:

    n: u32 | n keys: u64, ascending | n sizes: u16 | the lists       everything little-endian

A list in the hand of a query is an integer, whose bit i is entry i.
"""

import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

MAXIMUM_ENTRIES: Final = 1 << 16
_HEAD: Final = 4
_KEY: Final = 8
_SIZE: Final = 2


def encode_list(offsets: Sequence[int], entries: int) -> bytes:
    """Return the list of `offsets`, ascending, of a segment of `entries`."""
    if _SIZE * len(offsets) < entries // 8:
        return _bytes(array("H", offsets))
    return _bitmap(offsets, entries)


def _bitmap(offsets: Sequence[int], entries: int) -> bytes:
    bits = bytearray(entries // 8)
    for offset in offsets:
        bits[offset >> 3] |= 1 << (offset & 7)
    return bytes(bits)


def to_bitmap(encoded: bytes, entries: int) -> bytes:
    """Return a list as one bit an entry."""
    if len(encoded) == entries // 8:
        return encoded
    return _bitmap(_array("H", encoded), entries)


def decode_list(encoded: bytes, entries: int) -> int:
    """Return a list as an integer: bit i is entry i of the segment."""
    if len(encoded) == _SIZE:
        return 1 << int.from_bytes(encoded, "little")
    return int.from_bytes(to_bitmap(encoded, entries), "little")


def offsets_of(encoded: bytes) -> Sequence[int]:
    """Return the offsets of a list that is not one bit an entry."""
    return _array("H", encoded)


def encode_block(lists: Mapping[int, bytes]) -> bytes:
    """Return the block of these lists by key."""
    keys = sorted(lists)
    sizes = array("H", [len(lists[key]) for key in keys])
    head = len(keys).to_bytes(_HEAD, "little")
    return b"".join((head, _bytes(array("Q", keys)), _bytes(sizes), *(lists[k] for k in keys)))


def find_list(block: bytes, key: int) -> bytes:
    """Return the list of `key` in `block`; empty when it has none."""
    count, keys, sizes = _parts(block)
    position = bisect_left(keys, key)
    if position == count or keys[position] != key:
        return b""
    start = _HEAD + count * (_KEY + _SIZE) + sum(sizes[:position])
    return block[start : start + sizes[position]]


def lists_of(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield every key of `block` and its list."""
    count, keys, sizes = _parts(block)
    start = _HEAD + count * (_KEY + _SIZE)
    for key, size in zip(keys, sizes, strict=True):
        yield key, block[start : start + size]
        start += size


def _parts(block: bytes) -> tuple[int, "array[int]", "array[int]"]:
    count = int.from_bytes(block[:_HEAD], "little")
    middle = _HEAD + count * _KEY
    return (
        count,
        _array("Q", block[_HEAD:middle]),
        _array("H", block[middle : middle + count * _SIZE]),
    )


def _array(kind: str, data: bytes) -> "array[int]":
    values = array(kind, data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _bytes(values: "array[int]") -> bytes:
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()
