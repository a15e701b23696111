"""What is done next so that the index is whole."""

from dataclasses import replace

import pytest

from audit.index.building import LARGE, SMALL
from audit.index.plan import Build, Merge, Remove, Work, next_work
from audit.index.tables import Segment, Stage

FULL = [Segment(number + 1, number * SMALL, SMALL) for number in range(LARGE // SMALL)]
BIG = Segment(70, 0, LARGE)
AFTER = [Segment(80 + n, LARGE + n * SMALL, SMALL) for n in range(2)]

CASES: list[tuple[str, list[Segment], int, Work | None]] = [
    ("nothing is logged", [], 0, None),
    ("less than a small segment is left alone", [], SMALL - 1, None),
    ("a small segment's worth", [], SMALL, Build(0, SMALL)),
    ("the next small one", FULL[:3], 4 * SMALL, Build(3 * SMALL, SMALL)),
    ("everything is indexed", FULL[:3], 3 * SMALL + 5, None),
    ("much at once is made large at once", [], LARGE, Build(0, LARGE)),
    ("but not in the middle of one", FULL[:1], 3 * LARGE, Build(SMALL, SMALL)),
    ("sixty-four are merged", FULL, LARGE + 10_000, Merge(tuple(FULL))),
    ("those after a large one wait for company", [BIG, *AFTER], LARGE + 2 * SMALL, None),
    ("a hole is filled", [FULL[0], FULL[2]], 3 * SMALL, Build(SMALL, SMALL)),
    ("a large hole is filled at once", AFTER, LARGE + 2 * SMALL, Build(0, LARGE)),
    (
        "what was redacted in is built again, at its size",
        [replace(BIG, redactions=2), *AFTER],
        2 * LARGE,
        Build(0, LARGE, (replace(BIG, redactions=2),)),
    ),
    (
        "before it is merged",
        [*FULL[:5], replace(FULL[5], redactions=1), *FULL[6:]],
        LARGE,
        Build(5 * SMALL, SMALL, (replace(FULL[5], redactions=1),)),
    ),
    (
        "what was begun and what was replaced goes first",
        [BIG, replace(FULL[0], stage=Stage.retired), replace(AFTER[0], stage=Stage.opened)],
        2 * LARGE,
        Remove((1, 80)),
    ),
    ("what the log does not have goes", [BIG, *AFTER], LARGE + SMALL, Remove((81,))),
    ("what is indexed twice goes", [BIG, *FULL[3:5]], LARGE, Remove((4,))),
]


@pytest.mark.parametrize(
    ("name", "segments", "size", "expected"), CASES, ids=[case[0] for case in CASES]
)
def test_next_is(name: str, segments: list[Segment], size: int, expected: Work | None) -> None:
    assert next_work(segments, size) == expected
