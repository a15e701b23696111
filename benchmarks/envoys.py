"""Pairs of real Envoys under traffic, and what anybody notices.

client -> Envoy `front-N` -> mutual TLS -> Envoy `back-N` -> app, with authorization in front of the
app. A connection between the two carries a few requests only, so that handshakes go on without a
pause while whatever is above the certificates changes.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final, Self

from benchmarks.figure import Row, Target
from benchmarks.process import workers
from meshca.demo.ports import free_port
from meshca.demo.traffic import Traffic
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow

REQUESTS_PER_CONNECTION: Final = 10
THIEF: Final = "thief"
"""Who may call everybody, where pairs are robbed."""
ROBBED_PAUSE: Final = 0.05
NONE: Final = Target(0, is_minimum=False)
_CALLERS: Final = 2


@dataclass(slots=True)
class Pairs:
    """Callers and called, one each; while its `with` block runs, there is traffic."""

    front: Sequence[Proxy]
    back: Sequence[Proxy]
    faults: Counter[str] = field(default_factory=Counter)
    _traffic: list[Traffic] = field(default_factory=list)
    handshakes: int = 0
    pause_seconds: float = 0.0

    def __enter__(self) -> Self:
        self.handshakes = -self._handshakes()
        for front, back in zip(self.front, self.back, strict=True):
            port = front.outbound[back.name]
            traffic = Traffic(port, callers=_CALLERS, pause_seconds=self.pause_seconds)
            self._traffic.append(traffic.__enter__())
        return self

    def __exit__(self, *_: object) -> None:
        for traffic in self._traffic:
            traffic.__exit__()
        self.handshakes += self._handshakes()
        for proxy in (*self.front, *self.back):
            self.faults.update(proxy.handshake_failures())
            refused = proxy.stats("(sds|extension_config).*update_rejected$")
            self.faults["updates refused"] += sum(refused.values())

    def rows(self, what: str) -> Iterator[Row]:
        """Yield what was noticed, once the `with` block has ended."""
        requests = sum(traffic.requests for traffic in self._traffic)
        failed = sum(traffic.failed for traffic in self._traffic)
        reasons = Counter(reason for traffic in self._traffic for reason in traffic.failures)
        seen = "".join(f"; {reason}: {count}" for reason, count in reasons.most_common(3))
        yield Row(f"{what}: requests lost", failed, "", target=NONE, note=f"of {requests:,}{seen}")
        refused = self.faults.pop("updates refused", 0)
        faults = "".join(f"; {name}: {count}" for name, count in self.faults.most_common(3))
        note = f"of {self.handshakes:,}{faults}"
        failed = self.faults.total()
        yield Row(f"{what}: handshakes failed", failed, "", target=NONE, note=note)
        yield Row(f"{what}: updates that an Envoy refused", refused, "", target=NONE)

    def _handshakes(self) -> int:
        return sum(proxy.handshakes() for proxy in self.front)


@contextmanager
def pairs(server: RunningServer, count: int, *, is_robbed: bool = False) -> Iterator[Pairs]:
    """Run `count` callers and as many that are called; yield when all have their secrets.

    With `is_robbed` the callers take calls, too, the thief may call everybody, and the traffic
    leaves time for measuring it.
    """
    numbers = range(count)
    names = [f"{side}-{n}" for side in ("front", "back") for n in numbers] if is_robbed else []
    server.apply(
        *(allow(f"front-{n}", f"back-{n}") for n in numbers), *(allow(THIEF, n) for n in names)
    )
    app = free_port()
    with ExitStack() as stack:
        stack.enter_context(workers("http_app", [{"port": app}], cores=os.sched_getaffinity(0)))
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            back = list(threads.map(lambda n: Proxy(server, f"back-{n}", app_port=app), numbers))
            taken = app if is_robbed else None
            front = list(threads.map(lambda n: _caller(server, n, back[n], taken), numbers))
        for proxy in (*back, *front):
            stack.enter_context(proxy)
        for proxy in (*back, *front):
            proxy.wait_ready(60)
        yield Pairs(front, back, pause_seconds=ROBBED_PAUSE if is_robbed else 0.0)


def _caller(server: RunningServer, number: int, called: Proxy, app: int | None) -> Proxy:
    proxy = Proxy(server, f"front-{number}", calls=[called], app_port=app)
    proxy.handshake_every(REQUESTS_PER_CONNECTION)
    return proxy
