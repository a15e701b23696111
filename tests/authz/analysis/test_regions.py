"""The algebra of boxes, against every point of small spaces."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from authz.analysis.regions import Box, Verdict, changes, intersect, merge

SIZES = (2, 3, 4)
EVERYTHING: Box = tuple((1 << size) - 1 for size in SIZES)
POINTS = list(itertools.product(*(range(size) for size in SIZES)))
boxes = st.tuples(*(st.integers(1, everything) for everything in EVERYTHING))
verdicts = st.builds(
    lambda allow, deny: Verdict(tuple(allow), tuple(deny)),
    st.lists(boxes, max_size=4),
    st.lists(boxes, max_size=4),
)


def holds(box: Box, point: tuple[int, ...]) -> bool:
    """Return whether `point` is in `box`."""
    return all(points >> at & 1 for points, at in zip(box, point, strict=True))


def is_allowed(verdict: Verdict, point: tuple[int, ...]) -> bool:
    """Return what `verdict` says of one point."""
    denied = any(holds(box, point) for box in verdict.deny)
    return not denied and any(holds(box, point) for box in verdict.allow)


@settings(deadline=None)
@given(verdicts, verdicts, boxes)
def test_regions_are_disjoint_and_hold_exactly_what_changes(
    before: Verdict, after: Verdict, within: Box
) -> None:
    regions = changes(before, after, within)

    for point in POINTS:
        inside = [region.allowed for region in regions if holds(region.box, point)]
        one, other = is_allowed(before, point), is_allowed(after, point)
        expected = [other] if one is not other and holds(within, point) else []
        assert inside == expected


@settings(deadline=None)
@given(verdicts)
def test_a_verdict_does_not_differ_from_itself(verdict: Verdict) -> None:
    turned = Verdict(verdict.allow[::-1], verdict.deny[::-1])

    assert changes(verdict, turned, EVERYTHING) == []


@settings(deadline=None)
@given(verdicts, verdicts, st.integers(0, 6))
def test_what_a_bound_cuts_off_is_marked_and_never_lost(
    before: Verdict, after: Verdict, steps: int
) -> None:
    regions = changes(before, after, EVERYTHING, steps=steps)

    for point in POINTS:
        inside = [region.allowed for region in regions if holds(region.box, point)]
        one, other = is_allowed(before, point), is_allowed(after, point)
        assert inside in ([other], [None]) if one is not other else inside in ([], [None])


@settings(deadline=None)
@given(st.lists(boxes, max_size=6))
def test_merged_boxes_hold_the_same(given_boxes: list[Box]) -> None:
    merged = merge(given_boxes)

    assert len(merged) <= len(given_boxes)
    for point in POINTS:
        expected = any(holds(box, point) for box in given_boxes)
        assert any(holds(box, point) for box in merged) is expected


@settings(deadline=None)
@given(boxes, boxes)
def test_an_intersection_holds_what_both_do(one: Box, other: Box) -> None:
    both = intersect(one, other)

    for point in POINTS:
        expected = holds(one, point) and holds(other, point)
        assert (both is not None and holds(both, point)) is expected
