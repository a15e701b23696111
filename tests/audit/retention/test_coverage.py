"""Which bodies may be gone: only those that a later redaction names."""

from collections.abc import Iterable
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.retention.coverage import Coverage, columns_digest, ranges_of, subtract, union
from meshca.errors import EvidenceBroken

INDEXES = st.sets(st.integers(0, 60))


def redaction(*ranges: tuple[int, int], count: int | None = None) -> bytes:
    counted = sum(last - first + 1 for first, last in ranges) if count is None else count
    details = {"ranges": ranges, "kinds": {"read": counted}, "columns_sha256": ""}
    return orjson.dumps({"details": details})


def covered(blank: Iterable[int], body: bytes, at: int = 100) -> Coverage:
    coverage = Coverage()
    for index in sorted(blank):
        coverage.heed(index, "read", None)
    coverage.heed(at, "redaction", body)
    return coverage


@given(INDEXES)
def test_ranges_hold_exactly_the_indexes(indexes: set[int]) -> None:
    ranges = ranges_of(indexes)
    assert [i for a, b in ranges for i in range(a, b + 1)] == sorted(indexes)
    assert list(union(ranges)) == ranges
    assert all(b + 1 < c for (_, b), (c, _) in pairwise(ranges))


@given(INDEXES, INDEXES, INDEXES)
def test_what_is_not_covered_is_the_difference(
    blank: set[int], one: set[int], other: set[int]
) -> None:
    covering = union(sorted([*ranges_of(one), *ranges_of(other)]))
    left = subtract(ranges_of(blank), covering)
    assert {i for a, b in left for i in range(a, b + 1)} == blank - one - other


def test_bodies_that_a_later_redaction_names_may_be_gone() -> None:
    covered({3, 4, 9}, redaction((3, 4), (9, 9))).check()


def test_a_body_that_no_redaction_names_is_missed() -> None:
    with pytest.raises(EvidenceBroken, match="body of entry 9 is gone") as caught:
        covered({3, 4, 9}, redaction((3, 4))).check()
    assert caught.value.index == 9


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (redaction((3, 100)), "not before it"),
        (redaction((5, 4)), "not before it"),
        (redaction((3, 5), (4, 6)), "not before it"),
        (redaction((3, 4), count=3), "counts other entries"),
        (b'{"details":{}}', "no redaction"),
        (b'{"details":{"ranges":[1],"kinds":{},"columns_sha256":""}}', "no redaction"),
        (b'{"details":{"ranges":[],"kinds":[],"columns_sha256":""}}', "no redaction"),
    ],
)
def test_a_redaction_that_cannot_be_is_none(body: bytes, said: str) -> None:
    with pytest.raises(EvidenceBroken, match=said):
        covered({3}, body)


def test_a_redaction_is_never_redacted() -> None:
    with pytest.raises(EvidenceBroken, match="is a redaction, and was blanked"):
        Coverage().heed(7, "redaction", None)


def test_the_digest_is_of_index_time_and_kind() -> None:
    digests = {
        columns_digest(columns)
        for columns in ([(1, 2, "read")], [(1, 2, "ban")], [(1, 3, "read")], [(2, 2, "read")], [])
    }
    assert len(digests) == 5
