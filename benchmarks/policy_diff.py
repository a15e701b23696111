"""The semantic difference of two sets of 1,000 policies: what exactly does this change?

In the thread's CPU time: the comparison alone, without loading. In a mesh kept well a tenth of
the policies differ, or all of them; in the worst case all 1,000 are attached to one workload.
"""

import copy
import time
from collections.abc import Iterator

from authz.analysis.difference import Difference, difference
from authz.policy import PolicySet
from benchmarks.figure import Context, Row, Target
from benchmarks.policy_corpus import Corpus, Document, crowded, spread
from meshca.clock import SystemClock

TITLE = "Semantic difference of policy sets"
TARGET = Target(10.0, is_minimum=False)
EVERY = 10


def run(context: Context) -> Iterator[Row]:
    """Compare sets of a mesh and of one workload, with themselves, in part and as a whole."""
    policies = context.scale(1_000, 100)
    for where, corpus in (
        ("over 250 workloads", spread(policies, 0)),
        ("on one workload", crowded(policies, 0)),
    ):
        before = corpus.load()
        after = Corpus([_changed(d, n) for n, d in enumerate(corpus.documents)], []).load()
        what = f"{policies:,} policies {where}"
        yield _measured(f"{what}, equal", before, corpus.load())
        yield _measured(f"{what}, a tenth changed", before, after)
    renamed = Corpus([_renamed(d) for d in spread(policies, 0).documents], []).load()
    yield _measured(
        f"{policies:,} policies over 250 workloads, all renamed",
        spread(policies, 0).load(),
        renamed,
    )


def _changed(document: Document, number: int) -> Document:
    if number % EVERY:
        return document
    changed = copy.deepcopy(document)
    rules = changed["spec"]["rules"]
    if len(rules) > 1:
        rules.pop()
    else:
        rules.append({"to": [{"operation": {"methods": ["GET"], "paths": [f"/new/{number}/*"]}}]})
    return changed


def _renamed(document: Document) -> Document:
    renamed = copy.deepcopy(document)
    renamed["metadata"]["name"] += "-again"
    return renamed


def _measured(what: str, before: PolicySet, after: PolicySet) -> Row:
    now = SystemClock().now().timestamp()
    cpu, wall = time.thread_time(), time.perf_counter()
    found = difference(before, after, now=now)
    cpu, wall = time.thread_time() - cpu, time.perf_counter() - wall
    return Row(what, cpu, "s", target=TARGET, note=f"{_said(found)}; {wall:.1f} s by the clock")


def _said(found: Difference) -> str:
    assert not found.defects
    return f"{len(found.changes)} regions" + (f", {len(found.beyond)} beyond" * bool(found.beyond))
