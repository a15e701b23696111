"""The processes of the demo, started and stopped in one place.

Whatever happens, leaving the `with` block stops every process, the last one first. Each writes
into a log file of its own. They are in sessions of their own, so that Ctrl-C reaches the demo
only, which then stops them in order.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from meshca.demo.observation import DemoFailed

STOP_SECONDS = 10.0
_TAIL = 2000


@dataclass(frozen=True, slots=True)
class Running:
    """One process and its log."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path


@dataclass(slots=True)
class Processes:
    """The processes that run; their logs are in `directory`."""

    directory: Path
    running: list[Running] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in reversed(self.running):
            running.process.terminate()
        while self.running:
            _stop(self.running.pop())

    def start(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Running:
        """Start a program; it sees our environment and `environment`."""
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(  # noqa: S603  # the demo's own programs, no shell
                list(arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        running = Running(name, process, log)
        self.running.append(running)
        return running

    def stop(self, name: str) -> None:
        """Stop the process called `name` and forget it."""
        for running in [each for each in self.running if each.name == name]:
            self.running.remove(running)
            _stop(running)

    def check(self) -> None:
        """Raise DemoFailed, with the end of its log, if a process has ended by itself."""
        for each in self.running:
            if (status := each.process.poll()) is not None:
                tail = each.log.read_text(errors="replace")[-_TAIL:]
                raise DemoFailed(f"{each.name} ended with status {status}:\n{tail}")


def _stop(running: Running) -> None:
    running.process.terminate()
    try:
        running.process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()
