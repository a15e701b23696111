"""Making segments: small ones out of entries, large ones out of small ones. Pure.

A segment is what the index knows of consecutive entries: blocks of lists, when its entries were,
and which values some fields have in it (unless they are too many: then the field is left out).
"""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from audit.index.blocks import encode_block, encode_list, lists_of, offsets_of, to_bitmap
from audit.index.terms import FIELDS, KEY_BITS, key_of, terms_of

SMALL: Final = 1_024
LARGE: Final = 65_536
SMALL_BITS: Final = 5
LARGE_BITS: Final = 11
"""How many leading bits of a key name its block, in segments of either size."""
TIME_BLOCK: Final = 256
MAXIMUM_VALUES: Final = 256
MAXIMUM_VALUE: Final = 256
VALUED: Final = tuple(f for f in FIELDS if f not in ("serial", "fingerprint", "request_id", "pod"))
"""Fields whose values a segment names; the others have nearly one an entry."""

_PARTS: Final = LARGE // SMALL

Values = Mapping[str, Sequence[str]]


class Row(Protocol):
    """An entry as it is stored; `body` is None once it is redacted."""

    @property
    def time_us(self) -> int: ...  # fields of audit.log.Stored
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Built:
    """A segment's content: its blocks in the order of their numbers.

    `times` are the first and the last time (µs) of each TIME_BLOCK entries.
    """

    blocks: tuple[bytes, ...]
    times: tuple[int, ...]
    values: Values


def build_small(rows: Sequence[Row]) -> Built:
    """Return the segment of SMALL entries."""
    lists: dict[tuple[str, str], list[int]] = defaultdict(list)
    for offset, row in enumerate(rows):
        # What a redacted entry still says is its kind.
        document = {"kind": row.kind} if row.body is None else orjson.loads(row.body)
        for term in terms_of(document):
            found = lists[term]
            if not found or found[-1] != offset:
                found.append(offset)
    return Built(_blocks(lists), _times(rows), _values(lists))


def _blocks(lists: Mapping[tuple[str, str], list[int]]) -> tuple[bytes, ...]:
    blocks: list[dict[int, list[int]]] = [{} for _ in range(1 << SMALL_BITS)]
    for (field, value), offsets in lists.items():
        key = key_of(field, value)
        block = blocks[key >> (KEY_BITS - SMALL_BITS)]
        block[key] = sorted({*block[key], *offsets}) if key in block else offsets
    return tuple(
        encode_block({key: encode_list(offsets, SMALL) for key, offsets in block.items()})
        for block in blocks
    )


def _times(rows: Sequence[Row]) -> tuple[int, ...]:
    times: list[int] = []
    for start in range(0, len(rows), TIME_BLOCK):
        some = [row.time_us for row in rows[start : start + TIME_BLOCK]]
        times += (min(some), max(some))
    return tuple(times)


def _values(terms: Iterable[tuple[str, str]]) -> Values:
    values: dict[str, list[str]] = {field: [] for field in VALUED}
    for field, value in terms:
        if field in values:
            values[field].append(value)
    return {f: sorted(v) for f, v in values.items() if _are_few(v)}


def _are_few(values: Sequence[str]) -> bool:
    return len(values) <= MAXIMUM_VALUES and all(len(value) <= MAXIMUM_VALUE for value in values)


def merge_times(parts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the times of a large segment made of small ones with these, in their order."""
    return tuple(time for part in parts for time in part)


def merge_values(parts: Sequence[Values]) -> Values:
    """Return the values of a large segment made of small ones with these."""
    merged: dict[str, Sequence[str]] = {}
    for field in VALUED:
        if all(field in part for part in parts):
            values = sorted({value for part in parts for value in part[field]})
            if _are_few(values):
                merged[field] = values
    return merged


def merge_blocks(parts: Sequence[bytes]) -> list[bytes]:
    """Return the blocks of a large segment that one block of each of its small ones becomes.

    `parts` are the blocks of one number, in the order of the small segments.
    """
    found: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
    for number, part in enumerate(parts):
        for key, encoded in lists_of(part):
            found[key].append((number, encoded))
    blocks: list[dict[int, bytes]] = [{} for _ in range(1 << (LARGE_BITS - SMALL_BITS))]
    for key, pieces in found.items():
        blocks[(key >> (KEY_BITS - LARGE_BITS)) % len(blocks)][key] = _joined(pieces)
    return [encode_block(block) for block in blocks]


def _joined(pieces: Sequence[tuple[int, bytes]]) -> bytes:
    bitmap, size = SMALL // 8, sum(len(piece) for _, piece in pieces)
    if size < LARGE // 8 and all(len(piece) < bitmap for _, piece in pieces):
        offsets = array("H")
        for number, piece in pieces:
            base = number * SMALL
            offsets.extend([base + offset for offset in offsets_of(piece)])
        return encode_list(offsets, LARGE)
    bits = bytearray(LARGE // 8)
    for number, piece in pieces:
        bits[number * bitmap : (number + 1) * bitmap] = to_bitmap(piece, SMALL)
    return _thinned(bytes(bits))


def _thinned(bits: bytes) -> bytes:
    """Return a list of one bit an entry as it is shortest."""
    held = int.from_bytes(bits, "little")
    if 2 * held.bit_count() >= len(bits):
        return bits
    text = f"{held:b}"[::-1]
    offsets, position = [], text.find("1")
    while position >= 0:
        offsets.append(position)
        position = text.find("1", position + 1)
    return encode_list(offsets, LARGE)
