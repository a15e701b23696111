"""Segments know of each entry what it says, whether made of entries or of other segments."""

import random
from collections.abc import Sequence

import orjson
import pytest

from audit.index.blocks import decode_list, find_list
from audit.index.building import (
    LARGE,
    LARGE_BITS,
    MAXIMUM_VALUES,
    SMALL,
    SMALL_BITS,
    TIME_BLOCK,
    Built,
    build_small,
    merge_blocks,
    merge_values,
)
from audit.index.terms import FIELDS, has_term, key_of
from audit.log import Stored

Document = dict[str, object]


def stored(document: Document | None, time_us: int = 0, kind: str = "issuance") -> Stored:
    body = None if document is None else orjson.dumps(document)
    return Stored(0, time_us, kind, b"", body)


def documents(start: int, count: int) -> list[Document]:
    """Return entries that have common values, rare ones, and their own."""
    choose = random.Random(start)
    return [
        {
            "kind": "issuance" if choose.random() < 0.9 else "ban",
            "namespace": f"n{int(60 * choose.random() ** 3)}",
            "serial": f"{start + number:x}",
            "pod": f"p{(start + number) // 700}",
            "details": {},
        }
        for number in range(count)
    ]


def held(blocks: Sequence[bytes], bits: int, entries: int, field: str, value: str) -> list[int]:
    key = key_of(field, value)
    encoded = find_list(blocks[key >> (64 - bits)], key)
    found = decode_list(encoded, entries) if encoded else 0
    return [offset for offset in range(entries) if found >> offset & 1]


def padded(*documents: Document | None) -> list[Stored]:
    rows = [stored(document) for document in documents]
    return rows + [stored({"kind": "gap"})] * (SMALL - len(rows))


def find_small(built: Built, field: str, value: str) -> list[int]:
    return held(built.blocks, SMALL_BITS, SMALL, field, value)


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_can_be_found(field: str) -> None:
    built = build_small(padded({}, {field: "it"}, {"details": {field: "it"}}))
    assert find_small(built, field, "it") == [1]


def test_an_entry_is_found_by_each_serial_it_speaks_of() -> None:
    built = build_small(padded({"serial": "a", "details": {"serials": ["b", "c", "b", "a"]}}))
    assert [find_small(built, "serial", s) for s in "abcd"] == [[0], [0], [0], []]


@pytest.mark.parametrize("odd", [None, 5, "", [], {"a": 1}, True])
def test_what_is_no_text_is_no_value(odd: object) -> None:
    rows = padded({"pod": odd, "details": {"serials": [odd]}}, {"details": odd}, {"pod": "x"})
    built = build_small(rows)
    assert find_small(built, "pod", "x") == [2]
    assert "pod" not in built.values


def test_of_a_redacted_entry_the_kind_is_left() -> None:
    built = build_small([stored(None, kind="ban"), *padded({"kind": "issuance"})[1:]])
    assert find_small(built, "kind", "ban") == [0]


def test_two_terms_of_one_key_are_both_in_its_list() -> None:
    # A lone surrogate cannot be in a body, but `?` replaces it in a key.
    rows = padded({"pod": "a?"}, {"pod": "b"}, {"pod": "a?"})
    built = build_small(rows)
    assert key_of("pod", "a\ud800") == key_of("pod", "a?")
    assert find_small(built, "pod", "a?") == [0, 2]


def test_times_are_the_first_and_last_of_each_block_though_the_clock_goes_back() -> None:
    rows = [stored({}, time_us=1_000 + (number * 37) % TIME_BLOCK) for number in range(SMALL)]
    assert build_small(rows).times == (1_000, 1_000 + TIME_BLOCK - 1) * 4


def test_values_are_named_unless_they_are_too_many_or_too_long() -> None:
    many: list[Document] = [
        {"namespace": f"n{number % (MAXIMUM_VALUES + 1)}"} for number in range(SMALL)
    ]
    built = build_small(padded({"cluster": "eu"}, {"cluster": "us"}, {"node": "x" * 300}))
    assert built.values["cluster"] == ["eu", "us"]
    assert built.values["policy"] == []
    assert "node" not in built.values
    both = merge_values([built.values, build_small(padded(*many[:900])).values])
    assert both["cluster"] == ["eu", "us"]
    more: list[Document] = [{"namespace": f"m{n}"} for n in range(900)]
    other = build_small(padded(*more)).values
    assert "namespace" in other
    assert "namespace" not in merge_values([other, build_small(padded(*many[:900])).values])


def test_a_large_segment_has_what_its_small_ones_had() -> None:
    every = documents(0, LARGE)
    parts = [
        build_small([stored(document) for document in every[start : start + SMALL]])
        for start in range(0, LARGE, SMALL)
    ]
    blocks: list[bytes] = []
    for number in range(1 << SMALL_BITS):
        blocks += merge_blocks([part.blocks[number] for part in parts])
    assert len(blocks) == 1 << LARGE_BITS
    terms = [("kind", "issuance"), ("kind", "ban"), ("serial", "400"), ("serial", "ffff")]
    terms += [("namespace", f"n{number}") for number in (0, 1, 7, 30, 59, 60)]
    terms += [("pod", f"p{number}") for number in (0, 1, 93, 94)]
    for field, value in terms:
        expected = [n for n, document in enumerate(every) if has_term(document, field, value)]
        assert held(blocks, LARGE_BITS, LARGE, field, value) == expected, (field, value)
