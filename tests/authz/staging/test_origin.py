"""Where the unbroken run of a policy began, and who brought it with that."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from authz.load import load_policies
from authz.sources import PolicyOptions
from authz.staging.origin import LOOKED_THROUGH, NOT_APPLIED, UNTOLD, AppliedRuns, author_of
from authz.store import AppliedSet, AppliedSetSink
from tests.authz.staging.world import CLOSED, break_glass
from tests.fakes import FakeClock
from tests.stores import sqlite_engine

NAME = "shop/oncall"
HELD, AWAY = f"{CLOSED}\n---\n{break_glass()}", CLOSED
OTHER = f"{CLOSED}\n---\n{break_glass(principal='example.org/ns/ops/*')}"
BROKEN = f"{HELD}\n---\nkind: oncall"
OPTIONS = PolicyOptions("example.org", "meshca", "deny")


def digest() -> str:
    loaded = load_policies(
        [("x", break_glass())], trust_domain="example.org", root_namespace="meshca", default="deny"
    )
    return loaded.policies[0].digest


def applied(engine: sa.Engine, versions: Sequence[str]) -> None:
    now = FakeClock().now()
    sets = [AppliedSet(n, now, f"author {n}", "x", text) for n, text in enumerate(versions, 1)]
    with engine.begin() as connection:
        AppliedSetSink().write(connection, sets)


@pytest.mark.parametrize(
    ("versions", "began"),
    [
        ([], NOT_APPLIED),
        ([HELD], 1),
        ([HELD, HELD], 1),
        ([AWAY, HELD, HELD], 2),
        ([HELD, AWAY, HELD], 3),
        ([HELD, OTHER, HELD], 3),
        ([HELD, AWAY], NOT_APPLIED),
        ([BROKEN, HELD], UNTOLD),
        ([BROKEN, AWAY, HELD], 3),
        ([HELD] * LOOKED_THROUGH, 1),
        ([HELD] * (LOOKED_THROUGH + 1), UNTOLD),
    ],
)
def test_a_run_begins_after_the_last_version_without_the_policy(
    tmp_path: Path, versions: Sequence[str], began: int
) -> None:
    with sqlite_engine(tmp_path) as engine:
        applied(engine, versions)
        runs = AppliedRuns(engine=engine, options=OPTIONS)
        for _ in range(2):  # what was looked at is remembered
            assert runs.began([(NAME, digest())]) == {digest(): began}
        author = None if began in (NOT_APPLIED, UNTOLD) else f"author {began}"
        assert author_of(began, engine) == author
