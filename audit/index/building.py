"""Making segments: small ones out of entries, large ones out of small ones. Pure.

A segment is what the index knows of consecutive entries: blocks of lists, when its entries were,
and which values some fields have in it (unless they are too many: then the field is left out).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from audit.index.blocks import (
    encode_block,
    encode_list,
    lists_of,
    offsets_of,
    shortest_list,
    to_bitmap,
)
from audit.index.terms import FIELDS, KEY_BITS, key_of, shared_serials

SMALL: Final = 1_024
LARGE: Final = 65_536
SMALL_BITS: Final = 5
LARGE_BITS: Final = 11
"""How many leading bits of a key name its block, in segments of either size."""
TIME_BLOCK: Final = 256
MAXIMUM_VALUES: Final = 1_024
MAXIMUM_VALUE: Final = 256
VALUED: Final = tuple(f for f in FIELDS if f not in ("serial", "fingerprint", "request_id", "pod"))
"""Fields whose values a segment names; the others have nearly one an entry."""

Values = Mapping[str, Sequence[str]]


class Row(Protocol):
    """An entry as it is stored; `body` is None once it is redacted."""

    @property
    def time_us(self) -> int: ...  # fields of audit.log.Stored
    @property
    def kind(self) -> str: ...
    @property
    def body(self) -> bytes | str | None: ...


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
    found: dict[str, dict[str, list[int]]] = {field: defaultdict(list) for field in FIELDS}
    fields = tuple(found.items())
    for offset, row in enumerate(rows):
        document = _document(row)
        for field, values in fields:
            value = document.get(field)
            if value and type(value) is str:
                values[value].append(offset)
        for serial in shared_serials(document):
            found["serial"][serial].append(offset)
    return Built(_blocks(found), _times(rows), _values(found))


def _document(row: Row) -> Mapping[str, Any]:
    """Return the body; of a redacted entry, and of a garbled one, the kind is left."""
    try:
        document = None if row.body is None else orjson.loads(row.body)
    except orjson.JSONDecodeError:
        document = None
    return document if isinstance(document, dict) else {"kind": row.kind}


def _blocks(found: Mapping[str, Mapping[str, list[int]]]) -> tuple[bytes, ...]:
    blocks: list[dict[int, bytes]] = [{} for _ in range(1 << SMALL_BITS)]
    for field, values in found.items():
        for value, offsets in values.items():
            key = key_of(field, value)
            block = blocks[key >> (KEY_BITS - SMALL_BITS)]
            if key in block:  # two terms of one key
                offsets = [*offsets, *offsets_of(block[key], SMALL)]
            block[key] = encode_list(offsets, SMALL)
    return tuple(encode_block(sorted(block), block) for block in blocks)


def _times(rows: Sequence[Row]) -> tuple[int, ...]:
    times: list[int] = []
    for start in range(0, len(rows), TIME_BLOCK):
        some = [row.time_us for row in rows[start : start + TIME_BLOCK]]
        times += (min(some), max(some))
    return tuple(times)


def _values(found: Mapping[str, Mapping[str, object]]) -> Values:
    return {field: sorted(found[field]) for field in VALUED if _are_few(found[field])}


def _are_few(values: Collection[str]) -> bool:
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
    lists: dict[int, bytes] = {}
    bitmaps: dict[int, bytearray] = {}
    for number, part in enumerate(parts):
        for key, piece in lists_of(part, SMALL, number * SMALL):
            if len(piece) == SMALL // 8:
                bits = bitmaps.setdefault(key, bytearray(LARGE // 8))
                bits[number * len(piece) : (number + 1) * len(piece)] = piece
            elif key in lists:
                lists[key] += piece
            else:
                lists[key] = piece
    for key, bits in bitmaps.items():
        lists[key] = shortest_list(bits, lists.get(key, b""))
    return _split({k: v if len(v) < LARGE // 8 else to_bitmap(v, LARGE) for k, v in lists.items()})


def _split(lists: Mapping[int, bytes]) -> list[bytes]:
    """Return the blocks of `lists`, whose keys all begin with the bits of one small block."""
    blocks, keys = [], sorted(lists)
    shift, count = KEY_BITS - LARGE_BITS, 1 << (LARGE_BITS - SMALL_BITS)
    first = (keys[0] >> shift) // count * count if keys else 0
    start = 0
    for number in range(first, first + count):
        stop = bisect_left(keys, (number + 1) << shift, start)
        blocks.append(encode_block(keys[start:stop], lists))
        start = stop
    return blocks
