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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

MAXIMUM_ENTRIES: Final = 1 << 16
_HEAD: Final = 4
_KEY: Final = 8
_SIZE: Final = 2


def encode_list(offsets: Collection[int], entries: int) -> bytes:
    """Return the list of `offsets`, in any order, of a segment of `entries`."""
    if len(offsets) == 1:
        return next(iter(offsets)).to_bytes(_SIZE, "little")
    if _SIZE * len(offsets) < entries // 8:
        return _bytes(array("H", sorted(set(offsets))))
    bits = bytearray(entries // 8)
    _set(bits, offsets)
    return shortest_list(bits)


def shortest_list(bits: bytearray, offsets: bytes = b"") -> bytes:
    """Return the list of the entries that `bits`, or the list `offsets`, has; sets `bits`."""
    _set(bits, _array("H", offsets))
    held = int.from_bytes(bits, "little")
    if _SIZE * held.bit_count() >= len(bits):
        return bytes(bits)
    return _bytes(array("H", positions(held)))


def _set(bits: bytearray, offsets: Iterable[int]) -> None:
    for offset in offsets:
        bits[offset >> 3] |= 1 << (offset & 7)


def to_bitmap(encoded: bytes, entries: int) -> bytes:
    """Return a list as one bit an entry."""
    if len(encoded) == entries // 8:
        return encoded
    bits = bytearray(entries // 8)
    _set(bits, _array("H", encoded))
    return bytes(bits)


def decode_list(encoded: bytes, entries: int) -> int:
    """Return a list as an integer: bit i is entry i of the segment."""
    if len(encoded) == _SIZE:
        return 1 << int.from_bytes(encoded, "little")
    return int.from_bytes(to_bitmap(encoded, entries), "little")


def positions(held: int) -> Iterator[int]:
    """Yield the entries that a list in the form of an integer has, ascending."""
    text = f"{held:b}"
    last = len(text) - 1
    position = text.rfind("1")
    while position >= 0:
        yield last - position
        position = text.rfind("1", 0, position)


def positions_down(held: int) -> Iterator[int]:
    """Yield the entries that a list in the form of an integer has, descending."""
    text = f"{held:b}"
    last = len(text) - 1
    position = text.find("1")
    while position >= 0:
        yield last - position
        position = text.find("1", position + 1)


def offsets_of(encoded: bytes, entries: int) -> list[int]:
    """Return the entries that a list has, ascending."""
    if len(encoded) == entries // 8:
        return list(positions(int.from_bytes(encoded, "little")))
    return list(_array("H", encoded))


def encode_block(keys: Sequence[int], lists: Mapping[int, bytes]) -> bytes:
    """Return the block of the lists of `keys`, which ascend."""
    chosen = [lists[key] for key in keys]
    sizes = array("H", map(len, chosen))
    head = len(keys).to_bytes(_HEAD, "little")
    return b"".join((head, _bytes(array("Q", keys)), _bytes(sizes), *chosen))


def find_list(block: bytes, key: int) -> bytes:
    """Return the list of `key` in `block`; empty when it has none."""
    count, keys, sizes = _parts(block)
    position = bisect_left(keys, key)
    if position == count or keys[position] != key:
        return b""
    start = _HEAD + count * (_KEY + _SIZE) + sum(sizes[:position])
    return block[start : start + sizes[position]]


def lists_of(block: bytes, entries: int, base: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield every key of `block`, of a segment of `entries`, and its list.

    `base`, a multiple of `entries`, is added to the offsets of lists that are not one bit an entry.
    """
    count, keys, sizes = _parts(block)
    held = block[_HEAD + count * (_KEY + _SIZE) :]
    # All at once: offsets are less than `entries`, a power of two, so that nothing is carried.
    ones = int.from_bytes(b"\x01\x00" * (len(held) // _SIZE), "little")
    moved = (int.from_bytes(held, "little") | base * ones).to_bytes(len(held), "little")
    bitmap, start = entries // 8, 0
    for key, size in zip(keys, sizes, strict=True):
        stop = start + size
        yield key, held[start:stop] if size == bitmap else moved[start:stop]
        start = stop


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
