"""Boxes of requests, and where two verdicts about them differ, exactly.

A box is one set of points a dimension: all requests whose value of each dimension is in its set. A
verdict is `allow` boxes less `deny` boxes. To compare two of them, the dimensions are gone through
in order: the points of one that the same boxes go on with belong together, and below them only
these boxes count. A branch ends as soon as both sides are decided, or go on alike; branches that
have been seen are remembered, and those that end alike are joined. So the answer is a list of
disjoint boxes, small where the change is.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from authz.analysis.bounds import MAXIMUM_STEPS
from authz.analysis.dimensions import bits

Box = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is allowed: all that is in one of `allow` and in none of `deny`."""

    allow: tuple[Box, ...]
    deny: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True)
class Region:
    """A box for which the verdict becomes `allowed`; None: how it changes is beyond the bound."""

    box: Box
    allowed: bool | None


def merge(boxes: Iterable[Box]) -> list[Box]:
    """Return boxes that cover the same, those that differ in one dimension only joined."""
    merged = list(dict.fromkeys(boxes))
    for dimension in range(len(merged[0]) if merged else 0):
        groups: dict[Box, int] = {}
        for box in merged:
            rest = (*box[:dimension], 0, *box[dimension + 1 :])
            groups[rest] = groups.get(rest, 0) | box[dimension]
        merged = [(*r[:dimension], points, *r[dimension + 1 :]) for r, points in groups.items()]
    return merged


def intersect(one: Box, other: Box) -> Box | None:
    """Return what is in both boxes; None where that is nothing."""
    both = tuple(a & b for a, b in zip(one, other, strict=True))
    return both if all(both) else None


def changes(
    before: Verdict, after: Verdict, within: Box, *, steps: int = MAXIMUM_STEPS
) -> list[Region]:
    """Return disjoint regions of `within` that hold exactly the requests whose verdict changes."""
    comparison = _Comparison.of(before, after, within)
    comparison.steps = steps
    found = comparison.below(0, comparison.sides)
    return [Region(box, allowed) for box, allowed in found]


_Tail = tuple[Box, bool | None]
_Sides = tuple[int, int]


@dataclass(slots=True)
class _Comparison:
    """Boxes are numbered; each side is the set of its numbers, as bits.

    `full[d]` are the boxes that exclude nothing from dimension `d` on; `everything` is the
    number, as a bit, of an allow box that excludes nothing at all.
    """

    boxes: list[Box]
    within: Box
    allow: int
    deny: int
    everything: int
    full: list[int]
    sides: _Sides
    steps: int = MAXIMUM_STEPS
    memory: dict[tuple[int, _Sides], tuple[_Tail, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, before: Verdict, after: Verdict, within: Box) -> "_Comparison":
        """Number the boxes of both sides, equal ones alike, cut to `within`."""
        numbers: dict[tuple[bool, Box], int] = {(True, within): 0}
        sides = []
        for verdict in (before, after):
            side = 0
            for is_allow, boxes in ((True, verdict.allow), (False, verdict.deny)):
                for box in boxes:
                    if (cut := intersect(box, within)) is not None:
                        side |= 1 << numbers.setdefault((is_allow, cut), len(numbers))
            sides.append(side)
        allow = sum(1 << number for (is_allow, _), number in numbers.items() if is_allow)
        made = [box for _, box in numbers]
        full = [(1 << len(made)) - 1]
        for dimension in reversed(range(len(within))):
            free = sum(1 << n for n, box in enumerate(made) if box[dimension] == within[dimension])
            full.append(full[-1] & free)
        everything = (1 << len(made)) - 1
        sides_made = (sides[0], sides[1])
        return cls(made, within, allow, everything & ~allow, 1, full[::-1], sides_made)

    def below(self, dimension: int, sides: _Sides) -> tuple[_Tail, ...]:
        """Return what changes from `dimension` on, where `sides` still count."""
        before, after = self._decided(dimension, sides[0]), self._decided(dimension, sides[1])
        if before == after:
            return ()
        rest = self.within[dimension:]
        if before in (0, self.everything) and after in (0, self.everything):
            return ((rest, after != 0),)
        key = (dimension, (before, after))
        if key not in self.memory:
            self.steps -= 1
            if self.steps < 0:
                return ((rest, None),)
            self.memory[key] = self._split(dimension, before, after)
        return self.memory[key]

    def _decided(self, dimension: int, side: int) -> int:
        """Return `side` without the boxes that make no difference from `dimension` on."""
        full = side & self.full[dimension]
        if not side & self.allow or full & self.deny:
            return 0
        if full & self.allow:
            return (side & self.deny) | self.everything
        return side

    def _split(self, dimension: int, before: int, after: int) -> tuple[_Tail, ...]:
        joined: dict[tuple[_Tail, ...], int] = {}
        for points, alive in self._groups(dimension, before, after):
            tails = self.below(dimension + 1, (before & alive, after & alive))
            if tails:
                joined[tails] = joined.get(tails, 0) | points
        tails_with_points: dict[_Tail, int] = {}
        for tails, points in joined.items():
            for tail in tails:
                tails_with_points[tail] = tails_with_points.get(tail, 0) | points
        return tuple(
            ((points, *box), allowed) for (box, allowed), points in tails_with_points.items()
        )

    def _groups(self, dimension: int, before: int, after: int) -> Iterator[tuple[int, int]]:
        """Yield sets of points with the boxes that hold them, where the sides may differ."""
        boxes, everywhere = self.boxes, self.within[dimension]
        changed = 0
        for number in bits(before ^ after):
            changed |= boxes[number][dimension]
        either = before | after
        groups = {0: changed & everywhere}
        free = 0
        for number in bits(either):
            points = boxes[number][dimension]
            if points == everywhere:
                free |= 1 << number
                continue
            bit = 1 << number
            for alive, group in list(groups.items()):
                inside = group & points
                if inside == group:
                    groups[alive | bit] = groups.pop(alive)
                elif inside:
                    groups[alive] = group & ~points
                    groups[alive | bit] = inside
        for alive, group in groups.items():
            if group:
                yield group, alive | free
