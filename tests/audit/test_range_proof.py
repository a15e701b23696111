"""Proofs of runs of entries, against the tree as RFC 6962 defines it."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.merkle import EMPTY_ROOT
from audit.range_proof import Row, range_hashes, subtrees, verify_range


def leaves(count: int) -> list[bytes]:
    return [sha256(b"\x00" + str(number).encode()).digest() for number in range(count)]


def naive_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as it is written there."""
    if not hashes:
        return sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return sha256(b"\x01" + naive_root(hashes[:k]) + naive_root(hashes[k:])).digest()


def hash_at_of(hashes: list[bytes], level: int, position: int) -> bytes:
    run = hashes[position << level : (position + 1) << level]
    assert len(run) == 1 << level
    return naive_root(run)


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, int, int]:
    size = draw(st.integers(0, 700))
    start = draw(st.integers(0, size))
    return start, draw(st.integers(start, size)), size


@given(runs())
def test_a_run_with_its_neighbours_comes_to_the_naive_root(run: tuple[int, int, int]) -> None:
    start, stop, size = run
    hashes = leaves(size)

    def hash_at(level: int, position: int) -> bytes:
        return hash_at_of(hashes, level, position)

    left, right = range_hashes(0, start, hash_at), range_hashes(stop, size, hash_at)
    root = naive_root(hashes)
    assert verify_range(start, hashes[start:stop], size, left, right, root)


@given(runs())
def test_what_a_row_holds_stands_for_the_run(run: tuple[int, int, int]) -> None:
    start, stop, size = run
    hashes = leaves(size)
    row = Row(start)
    row.extend(hashes[start:stop])
    expected = [(lv, at, hash_at_of(hashes, lv, at)) for lv, at in subtrees(start, stop)]
    assert row.nodes() == expected


@given(runs(), st.data())
def test_any_other_run_does_not_verify(run: tuple[int, int, int], data: st.DataObject) -> None:
    start, stop, size = run
    hashes = leaves(size)

    def hash_at(level: int, position: int) -> bytes:
        return hash_at_of(hashes, level, position)

    left, right = range_hashes(0, start, hash_at), range_hashes(stop, size, hash_at)
    root, shown = naive_root(hashes), hashes[start:stop]
    if not shown:
        return
    at = data.draw(st.integers(0, len(shown) - 1))
    changed = [*shown[:at], sha256(b"other").digest(), *shown[at + 1 :]]
    removed = [*shown[:at], *shown[at + 1 :]]
    inserted = [*shown[:at], shown[at], *shown[at:]]
    for wrong in (changed, removed, inserted):
        assert not verify_range(start, wrong, size, left, right, root)
    assert not verify_range(start + 1, shown, size, left, right, root)
    if len(shown) > 1 and at:
        moved = [shown[at], *shown[:at], *shown[at + 1 :]]
        assert not verify_range(start, moved, size, left, right, root)


@given(runs())
def test_subtrees_are_complete_and_side_by_side(run: tuple[int, int, int]) -> None:
    start, stop, _ = run
    at = start
    for level, position in subtrees(start, stop):
        assert position << level == at
        at += 1 << level
    assert at == stop


def test_an_empty_tree_has_the_empty_root() -> None:
    assert Row().root() == EMPTY_ROOT
    assert verify_range(0, [], 0, [], [], EMPTY_ROOT)


@pytest.mark.parametrize(
    ("stop", "hashes"),
    [(4, []), (4, [b"x" * 32, b"y" * 32]), (4, [b"short"]), (-1, [])],
    ids=["too few", "too many", "too short", "backwards"],
)
def test_refuses_hashes_that_do_not_fit(stop: int, hashes: list[bytes]) -> None:
    with pytest.raises(ValueError, match="do not stand for"):
        Row().skip(stop, hashes)


def test_refuses_a_subtree_where_none_begins() -> None:
    row = Row(3)
    with pytest.raises(ValueError, match="no subtree of level 1 begins at leaf 3"):
        row.add(1, bytes(32))
    with pytest.raises(ValueError, match="has no root"):
        row.root()
