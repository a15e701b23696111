"""Lists and blocks say what was put into them, in the shorter of two ways."""

from hypothesis import given
from hypothesis import strategies as st

from audit.index.blocks import (
    decode_list,
    encode_block,
    encode_list,
    find_list,
    lists_of,
    offsets_of,
    positions,
    positions_down,
    to_bitmap,
)

ENTRIES = 1_024
OFFSETS = st.sets(st.integers(0, ENTRIES - 1), min_size=1, max_size=ENTRIES)


def bits(offsets: set[int]) -> int:
    return sum(1 << offset for offset in offsets)


@given(OFFSETS)
def test_a_list_says_what_was_put_in_and_is_never_longer_than_one_bit_an_entry(
    offsets: set[int],
) -> None:
    encoded = encode_list(offsets, ENTRIES)
    assert decode_list(encoded, ENTRIES) == bits(offsets)
    assert decode_list(to_bitmap(encoded, ENTRIES), ENTRIES) == bits(offsets)
    assert offsets_of(encoded, ENTRIES) == sorted(offsets)
    assert len(encoded) == min(2 * len(offsets), ENTRIES // 8)


@given(OFFSETS)
def test_positions_go_up_and_down(offsets: set[int]) -> None:
    assert list(positions(bits(offsets))) == sorted(offsets)
    assert list(positions_down(bits(offsets))) == sorted(offsets, reverse=True)


def test_nothing_has_no_positions() -> None:
    assert list(positions(0)) == list(positions_down(0)) == []


@given(st.dictionaries(st.integers(0, 2**64 - 1), OFFSETS, max_size=20), st.integers(0, 2**64 - 1))
def test_a_block_has_the_list_of_each_key_and_of_no_other(
    lists: dict[int, set[int]], other: int
) -> None:
    encoded = {key: encode_list(offsets, ENTRIES) for key, offsets in lists.items()}
    block = encode_block(sorted(encoded), encoded)
    assert {key: find_list(block, key) for key in lists} == encoded
    assert dict(lists_of(block, ENTRIES)) == encoded
    assert find_list(block, other) == encoded.get(other, b"")


@given(st.dictionaries(st.integers(0, 2**64 - 1), OFFSETS, max_size=20), st.integers(0, 63))
def test_a_block_that_is_moved_has_every_offset_moved_but_no_bit(
    lists: dict[int, set[int]], number: int
) -> None:
    encoded = {key: encode_list(offsets, ENTRIES) for key, offsets in lists.items()}
    block = encode_block(sorted(encoded), encoded)
    for key, moved in lists_of(block, ENTRIES, number * ENTRIES):
        if len(moved) == ENTRIES // 8:
            assert moved == encoded[key]
        else:
            expected = [offset + number * ENTRIES for offset in sorted(lists[key])]
            assert offsets_of(moved, 65_536) == expected
