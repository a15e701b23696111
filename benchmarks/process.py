"""The server and its clients as processes of their own, and what they spend, read from /proc."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.development import MESHCA, Development

SERVER_CORE: Final = 0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """A running process, seen from outside."""

    popen: "subprocess.Popen[str]"

    @property
    def cpu_seconds(self) -> float:
        """Return the CPU time it has used, all threads, user and system."""
        stat = Path(f"/proc/{self.popen.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def resident_bytes(self) -> int:
        """Return its resident set."""
        statm = Path(f"/proc/{self.popen.pid}/statm").read_text()
        return int(statm.split()[1]) * _PAGE


class Worker(Process):
    """A client process: one JSON object a line in, one a line out."""

    __slots__ = ()

    def tell(self, **order: Any) -> None:
        """Give it an order."""
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps(order) + "\n")
        self.popen.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for its next answer."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"a client process ended with status {self.popen.wait(5)}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def client_cores() -> set[int]:
    """Return the cores that clients may use: all but the server's, where there are more."""
    cores = os.sched_getaffinity(0)
    return cores - {SERVER_CORE} or cores


@contextlib.contextmanager
def server(development: Development) -> Iterator[Process]:
    """Run `meshca serve` on a core of its own, from ready to SIGTERM."""
    command = [str(MESHCA), "serve", "--config", str(development.config)]
    with running(development, command) as process:
        with contextlib.suppress(OSError):  # not on this machine: measure where it runs
            os.sched_setaffinity(process.popen.pid, {SERVER_CORE})
        yield process


@contextlib.contextmanager
def running(development: Development, command: Sequence[str]) -> Iterator[Process]:
    """Run a server of `development` on whatever core is free, from ready to SIGTERM."""
    with (development.directory / "server.log").open("ab") as log:
        popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        _wait_ready(popen, development)
        yield Process(popen)
    finally:
        _stop(popen)


@contextlib.contextmanager
def workers(
    module: str, arguments: Sequence[Mapping[str, Any]], *, cores: set[int] | None = None
) -> Iterator[list[Worker]]:
    """Run `python -m benchmarks.MODULE` once for each of `arguments`.

    They run on `cores`: those of `client_cores` if nothing is said.
    """
    with contextlib.ExitStack() as stack:
        running = [
            stack.enter_context(_worker(module, given, cores or client_cores()))
            for given in arguments
        ]
        for worker in running:
            worker.hear()
        yield running


@contextlib.contextmanager
def _worker(module: str, given: Mapping[str, Any], cores: set[int]) -> Iterator[Worker]:
    command = [sys.executable, "-m", f"benchmarks.{module}", json.dumps(given)]
    popen = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        os.sched_setaffinity(popen.pid, cores)
        yield Worker(popen)
    finally:
        _stop(popen)


def _wait_ready(popen: "subprocess.Popen[str]", development: Development) -> None:
    url = f"http://127.0.0.1:{development.metrics_port}/readyz"
    deadline = time.monotonic() + 60
    while True:
        if popen.poll() is not None or time.monotonic() > deadline:
            log = (development.directory / "server.log").read_text()
            raise RuntimeError(f"the server does not get ready:\n{log[-4000:]}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        time.sleep(0.1)


def _stop(popen: "subprocess.Popen[str]") -> None:
    popen.send_signal(signal.SIGTERM)
    try:
        popen.wait(30)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait(10)
