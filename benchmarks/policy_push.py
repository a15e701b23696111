"""A changed policy, from the call of the admin door until the last proxy has been sent it.

Each simulated proxy has one aggregated stream, its policy with it. One policy of the whole set is
changed, which selects them all; the others are of other namespaces. The time has all of it: the
request, reading the set, the audit entry and the version in one commit, compiling, pushing.
"""

from collections.abc import Iterator
from statistics import median

from benchmarks.development import NAMESPACE, temporary
from benchmarks.figure import Context, Row, Target
from benchmarks.fleet import WITH_POLICY, Fleet, connected
from benchmarks.policy_corpus import spread

TITLE = "A changed policy at its proxies"
TARGET = Target(50.0, is_minimum=False)
_ROUNDS = 9
_POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: changed, namespace: {namespace}}}
spec: {{rules: [{{to: [{{operation: {{paths: ["/{number}"]}}}}]}}]}}
"""


def run(context: Context) -> Iterator[Row]:
    """Measure sets of a few and of a thousand policies, and few and more proxies."""
    proxies = context.scale(100, 20)
    with (
        temporary() as development,
        context.progress(f"{proxies} proxies", 3 * _ROUNDS) as advance,
        connected(development, proxies, WITH_POLICY) as fleet,
    ):
        for step, policies in enumerate((1, 100, 1000)):
            others = spread(policies - 1, 0).text() if policies > 1 else ""
            _push(fleet, others, -1 - step)  # the first reads the whole set
            milliseconds = []
            for number in range(_ROUNDS):
                milliseconds.append(1e3 * _push(fleet, others, number + 100 * step))
                advance(step * _ROUNDS + number + 1)
            yield Row(
                f"one of {policies:,} applied policies, {proxies} proxies",
                median(milliseconds),
                "ms",
                target=TARGET,
                note=f"best {min(milliseconds):.0f}, worst of {_ROUNDS} {max(milliseconds):.0f} ms",
            )


def _push(fleet: Fleet, others: str, number: int) -> float:
    changed = _POLICY.format(namespace=NAMESPACE, number=number)
    body = {"documents": f"{changed}---\n{others}", "reason": "benchmark"}
    started = fleet.expect_push()
    fleet.admin.post("/policies", body)
    return fleet.pushed_at() - started
