"""SDS for thousands of proxies: until all hold their secrets, what they weigh, one push to all.

The service runs in one process (benchmarks/stream_server.py), the simulated proxies in two others
(benchmarks/stream_client.py says what they model); they share the machine's cores. All proxies
start at once, as after an outage: each makes a TLS connection, shows its pod's own token and gets
a key and a certificate of its own. Times are wall times from the first connect or the change.
"""

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.development import Development, temporary
from benchmarks.figure import Context, Row, Target
from benchmarks.fleet import AS_ENVOY, shares
from benchmarks.process import Process, Worker, running, workers

TITLE = "SDS streams in one process"
PUSH_TARGET = Target(3.0, is_minimum=False)
MEMORY_TARGET = Target(1.2, is_minimum=False)
ONE_STREAM = (("default", "ROOTCA"),)
_IDLE_SECONDS = 5
_PUSHES = 3


@dataclass(frozen=True, slots=True)
class Scene:
    """How many proxies, what streams each opens, and whether the issue's targets are for it."""

    proxies: int
    names: tuple[tuple[str, ...], ...]
    has_targets: bool

    @property
    def streams(self) -> int:
        """Return how many streams are open in all."""
        return self.proxies * len(self.names)

    def __str__(self) -> str:
        each = "a stream each" if len(self.names) == 1 else f"{len(self.names)} streams each"
        return f"{self.proxies:,} proxies, {each}"


def run(context: Context) -> Iterator[Row]:
    """Measure a thousand proxies with a stream a secret, as Envoy has them, and ten thousand."""
    for scene in (
        Scene(context.scale(1000, 100), AS_ENVOY, has_targets=False),
        Scene(context.scale(10_000, 1000), ONE_STREAM, has_targets=True),
    ):
        with temporary() as development, context.progress(f"{scene}", 3 + _PUSHES) as advance:
            for step, row in enumerate(_scene(development, scene), start=1):
                advance(step)
                yield row


def _scene(development: Development, scene: Scene) -> Iterator[Row]:
    command = [sys.executable, "-m", "benchmarks.stream_server", str(development.config)]
    everywhere = os.sched_getaffinity(0)
    with ExitStack() as stack:
        served = stack.enter_context(running(development, command))
        clients = stack.enter_context(
            workers(
                "stream_client", shares(development, scene.proxies, scene.names), cores=everywhere
            )
        )
        before, cpu = served.resident_bytes, served.cpu_seconds
        yield _held(scene, clients, served, cpu)
        idle = _idle_share(served)
        yield from _memory(scene, before, served.resident_bytes)
        what = f"{scene}: idle server"
        yield Row(what, idle * 100, "% of a core", note=f"over {_IDLE_SECONDS} s")
        yield from _pushes(scene, served, clients)


def _held(scene: Scene, clients: list[Worker], served: Process, cpu: float) -> Row:
    for client in clients:
        client.tell(do="start")
    answers = [client.hear() for client in clients]
    started = min(answer["started_at"] for answer in answers)
    seconds = max(answer["held_at"] for answer in answers) - started
    spent = served.cpu_seconds - cpu
    ended = sum((Counter(answer["ended"]) for answer in answers), Counter[str]())
    again = ", ".join(f"{count} ({why})" for why, count in ended.items()) or "none"
    note = (
        f"{scene.proxies / seconds:,.0f} proxies/s; server CPU {spent:.1f} s, "
        f"{spent / scene.proxies * 1e3:.2f} ms each; streams that came again: {again}"
    )
    return Row(f"{scene}: all hold their secrets", seconds, "s", note=note)


def _idle_share(served: Process) -> float:
    time.sleep(1)  # what the last acknowledgement left to do
    cpu, wall = served.cpu_seconds, time.perf_counter()
    time.sleep(_IDLE_SECONDS)
    return (served.cpu_seconds - cpu) / (time.perf_counter() - wall)


def _memory(scene: Scene, before: int, after: int) -> Iterator[Row]:
    each = (after - before) / scene.streams / 1024
    per_proxy = (after - before) / scene.proxies / 1024
    note = f"{per_proxy:.0f} KiB a proxy: TLS connection, session, key and certificate"
    yield Row(f"{scene}: memory per idle stream", each, "KiB", note=note)
    target = MEMORY_TARGET if scene.has_targets else None
    note = f"resident; {before / 2**20:.0f} MiB before the first"
    yield Row(f"{scene}: the process", after / 2**30, "GiB", target=target, note=note)


def _pushes(scene: Scene, served: Process, clients: list[Worker]) -> Iterator[Row]:
    """Push a changed bundle a few times; report the median of each time."""
    received, acked, cpu = [], [], served.cpu_seconds
    for _ in range(_PUSHES):
        for client in clients:
            client.tell(do="push")
        served.popen.send_signal(signal.SIGUSR1)
        at = _line(served)["pushed_at"]
        received.append(max(client.hear()["received_at"] for client in clients) - at)
        acked.append(_line(served)["acked_at"] - at)
    each = (served.cpu_seconds - cpu) / _PUSHES / scene.proxies * 1e6
    target = PUSH_TARGET if scene.has_targets else None
    note = f"worst of {_PUSHES}: {max(received):.2f} s"
    median = sorted(received)[_PUSHES // 2]
    yield Row(f"{scene}: the last has a changed bundle", median, "s", target=target, note=note)
    note = f"worst of {_PUSHES}: {max(acked):.2f} s; server CPU {each:.0f} µs each"
    median = sorted(acked)[_PUSHES // 2]
    yield Row(f"{scene}: all have acknowledged it", median, "s", target=target, note=note)


def _line(served: Process) -> dict[str, float]:
    assert served.popen.stdout is not None
    answer: dict[str, float] = json.loads(served.popen.stdout.readline())
    return answer
