"""The little DER: what is written is what a parser reads, and the reader is strict."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca import der
from tests.builders import KEY_KINDS, make_request


@pytest.mark.parametrize(
    ("size", "header"), [(0, "0400"), (127, "047f"), (128, "048180"), (256, "04820100")]
)
def test_lengths_are_in_their_shortest_form(size: int, header: str) -> None:
    assert der.encode(0x04, bytes(size)) == bytes.fromhex(header) + bytes(size)


@given(st.integers(0, 2**200))
def test_integers_are_positive_and_short(value: int) -> None:
    content = der.contents(der.integer(value))
    assert int.from_bytes(content, "big", signed=True) == value
    assert content[:1] != b"\x00" or len(content) == 1 or content[1] >= 0x80


@pytest.mark.parametrize(
    ("at", "encoded"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), b"\x17\x0d260102030405Z"),
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x17\x0d491231235959Z"),
        (datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x18\x0f99991231235959Z"),
    ],
)
def test_times_are_utc_time_to_the_end_of_2049(at: datetime, encoded: bytes) -> None:
    assert der.time(at) == encoded


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_items_are_what_was_put_in(contents: list[bytes]) -> None:
    elements = [der.encode(0x04, content) for content in contents]
    assert der.items(der.encode(0x30, *elements)) == elements
    assert [der.contents(element) for element in elements] == contents


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "30",
        "3001",
        "308101",
        "30800000",
        "30817f",
        "3082007f",
        "3000ff",
        "30030401",
        "3003040200",
        "30031f0100",
        "bf0100",
        "3084ffffffff",
    ],
    ids=[
        "empty",
        "a tag only",
        "content missing",
        "long content missing",
        "indefinite length",
        "long form of a short length",
        "leading zero in a length",
        "octets after the end",
        "an element cut off",
        "an element that ends outside",
        "a tag of two octets inside",
        "a tag of two octets",
        "four gigabytes",
    ],
)
def test_refuses_what_is_not_der(octets: str) -> None:
    with pytest.raises(ValueError, match="DER"):
        der.items(bytes.fromhex(octets))


@given(st.binary(max_size=60))
def test_nothing_but_a_value_error_comes_of_any_octets(octets: bytes) -> None:
    try:
        items = der.items(octets)
    except ValueError:
        return
    assert octets.endswith(b"".join(items))


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_finds_the_bits_of_a_key(kind: str) -> None:
    spki = make_request(kind).public_key
    bits = der.public_key_bits(spki)
    assert spki.endswith(b"\x00" + bits)
    _, bit_string = der.items(spki)
    assert der.contents(bit_string) == b"\x00" + bits
