"""Who can reach a workload, and what an identity can reach: all of it, at one time.

The answer to either is the difference between a set that allows nothing and the one in question.
"""

from collections.abc import Iterable
from dataclasses import replace

from authz.analysis.bounds import TooLarge
from authz.analysis.destinations import Destination, Selectors, destinations, selectors_of
from authz.analysis.difference import Answer, Difference
from authz.analysis.sides import ANYTHING, Comparison, Within
from authz.policy import PolicySet
from authz.workload import Workload


def who_can(
    policies: PolicySet, workload: Workload, *, now: float, within: Within = ANYTHING
) -> Difference:
    """Return the requests to `workload` that are allowed at the time `now`."""
    kind = Destination(workload.namespace, workload.labels, workload)
    return _allowed(policies, [kind], now=now, within=within)


def what_can(
    policies: PolicySet,
    source: str,
    *,
    now: float,
    within: Within = ANYTHING,
    known: Iterable[Workload] = (),
) -> Difference:
    """Return the requests that `source` (a SPIFFE ID without its scheme) may make at `now`.

    To every kind of destination that the policies tell apart, and to the `known` workloads.
    """
    every = selectors_of(policies)
    for workload in known:
        every.add(workload.namespace, workload.labels)
    everything = Selectors(every.roots)
    everything.add(policies.root_namespace)
    return _allowed(
        policies,
        destinations(every, everything),
        now=now,
        within=replace(within, source=source),
    )


def _allowed(
    policies: PolicySet, kinds: Iterable[Destination], *, now: float, within: Within
) -> Difference:
    comparison = Comparison(None, policies, now, replace(within, now_only=True))
    answer = Answer(None, policies)
    try:
        for kind in kinds:
            answer.add(kind, comparison.of(kind))
    except TooLarge as error:
        answer.found.beyond.append(f"destinations: {error}")
    return answer.finish()
