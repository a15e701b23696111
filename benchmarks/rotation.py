"""Rotation under load: two real Envoys, certificates of ten seconds, and no request lost.

client -> Envoy `frontend` -> mutual TLS -> Envoy `orders` -> app, with authorization in front of
the app. Both Envoys fetch everything over SDS from the real `meshca serve`. A connection between
them carries fifty requests, so that handshakes go on while certificates change.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from benchmarks.figure import Context, Row, Target
from benchmarks.process import workers
from meshca.demo.ports import free_port
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow

TITLE = "Rotation under load, two real Envoys"
LIFETIME = "10s"
REQUESTS_PER_CONNECTION = 50
_NONE = Target(0, is_minimum=False)
_POLL_SECONDS = 0.2


def run(context: Context) -> Iterator[Row]:
    """Measure how many of 100,000 requests and more are lost while certificates change."""
    requests, seconds = context.scale(100_000, 5000), context.scale(60, 15)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="meshca-bench-")))
        server = stack.enter_context(RunningServer(directory, svid=LIFETIME))
        server.apply(allow("frontend", "orders"))
        app = free_port()
        stack.enter_context(workers("http_app", [{"port": app}], cores=os.sched_getaffinity(0)))
        orders = stack.enter_context(Proxy(server, "orders", app_port=app))
        frontend = Proxy(server, "frontend", calls=[orders])
        frontend.handshake_every(REQUESTS_PER_CONNECTION)
        stack.enter_context(frontend)
        for proxy in (orders, frontend):
            proxy.wait_ready()
        (load,) = stack.enter_context(
            workers(
                "http_load", [{"port": frontend.outbound["orders"]}], cores=os.sched_getaffinity(0)
            )
        )
        with context.progress("requests", 1), Watch(orders, frontend) as watch:
            load.tell(requests=requests, seconds=seconds)
            answer = load.hear()
        yield from _rows(answer, watch)


def _rows(answer: dict[str, Any], watch: "Watch") -> Iterator[Row]:
    answers, seconds = answer["answers"], answer["seconds"]
    total = sum(answers.values())
    lost = total - answers.get("200", 0)
    seen = ", ".join(f"{what}: {count:,}" for what, count in sorted(answers.items()))
    note = f"of {total:,} in {seconds:.0f} s; {seen}; 16 connections"
    yield Row("requests lost", lost, "", target=_NONE, note=note)
    note = f"{watch.handshakes:,} handshakes between the Envoys; certificates live {LIFETIME}"
    yield Row("certificates replaced meanwhile", watch.rotations, "", target=Target(8), note=note)
    yield Row("updates that an Envoy refused", watch.refused, "", target=_NONE)
    yield Row("requests", total / seconds, "/s", note="everything on the same cores: no measure")


class Watch:
    """Counts, while its `with` block runs, which certificates the Envoys come to hold."""

    def __init__(self, *proxies: Proxy) -> None:
        self._proxies = proxies
        self._serials: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._before = 0
        self.handshakes = 0
        self.refused = 0

    def __enter__(self) -> Self:
        self._before = sum(proxy.handshakes() for proxy in self._proxies)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.handshakes = sum(proxy.handshakes() for proxy in self._proxies) - self._before
        for proxy in self._proxies:
            self.refused += sum(proxy.stats("(sds|extension_config).*update_rejected$").values())

    @property
    def rotations(self) -> int:
        """Return how many certificates were replaced by another."""
        return len(self._serials) - len(self._proxies)

    def _watch(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            for proxy in self._proxies:
                self._serials |= proxy.serials()
