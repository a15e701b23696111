"""The policy engine: one decision, by the number of policies; compiling for every workload.

Decisions are timed one by one by the clock of the machine, over requests of which two in three were
made to fit a rule. OPA, where its binary is there, decides the same requests by the same documents
over HTTP on this machine, its decision alone as it measures that itself.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from statistics import median, quantiles

from authz.compile import http_rbac, network_rbac
from authz.engine import compile_workload, decide
from authz.policy import PolicySet
from authz.request import Request
from benchmarks import opa
from benchmarks.figure import Context, Row, Target
from benchmarks.policy_corpus import Corpus, crowded, spread, to_request, workloads
from meshca.service import calm_collector

TITLE = "Policy engine"
ROUNDS = 5


def run(context: Context) -> Iterator[Row]:
    """Measure decisions over sets of several sizes, then loading and compiling the largest."""
    many = context.scale(10_000, 1_000)
    few = many // 10
    count = context.scale(5_000, 500)
    calm_collector()
    yield from _decisions(few, spread(few, count), "250 workloads", Target(10, is_minimum=False))
    corpus = spread(many, count)
    started = time.perf_counter()
    policies = corpus.load()
    loading = time.perf_counter() - started
    yield from _decisions(
        many, corpus, "250 workloads", Target(15, is_minimum=False), policies=policies
    )
    for size in (few, many):
        yield from _decisions(size, crowded(size, count), "all on one workload", None)
    yield Row(f"{many:,} policies loaded from YAML", loading, "s", note="read, checked, hashed")
    yield _compiled(policies, many)
    yield from opa.compared(corpus, policies)


def _decisions(
    size: int,
    corpus: Corpus,
    where: str,
    target: Target | None,
    *,
    policies: PolicySet | None = None,
) -> Iterator[Row]:
    policies = corpus.load() if policies is None else policies
    requests = [to_request(asked) for asked in corpus.requests]
    allowed = sum(decide(policies, request).allowed for request in requests)
    gc.collect()
    rounds = [_timed(policies, requests) for _ in range(ROUNDS)]
    fast = min(rounds, key=median)
    middle = sorted(median(times) for times in rounds)[ROUNDS // 2]
    yield Row(
        f"a decision, {size:,} policies, {where}",
        median(fast),
        "µs p50",
        target=target,
        note=f"p99 {quantiles(fast, n=100)[98]:.0f} µs; best of {ROUNDS} rounds of "
        f"{len(requests):,}, the middle one {middle:.1f} µs; {allowed / len(requests):.0%} allowed",
    )


def _timed(policies: PolicySet, requests: Sequence[Request]) -> list[float]:
    """Return the microseconds of each decision."""
    times: list[float] = []
    clock = time.perf_counter_ns
    for request in requests:
        started = clock()
        decide(policies, request)
        times.append((clock() - started) / 1e3)
    return times


def _compiled(policies: PolicySet, size: int) -> Row:
    policies.compiled.clear()
    spent, filters = time.perf_counter(), 0
    octets = 0
    for workload in workloads():
        compiled = compile_workload(policies, workload)
        for message in (http_rbac(compiled), network_rbac(compiled)):
            filters += 1
            octets += len(message.SerializeToString(deterministic=True))
    return Row(
        f"{size:,} policies compiled for {filters // 2} workloads",
        time.perf_counter() - spent,
        "s",
        target=Target(5, is_minimum=False),
        note=f"{filters} filters, {octets / 2**20:.1f} MiB in all",
    )
