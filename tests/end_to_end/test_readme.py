"""The README's first steps, typed in order, do what they say.

Read from the README: a `console` block holds commands after `$ ` and, below one, the output it
must have; a `yaml NAME` block is a file. `&` runs a command in the background. Only ports and
Envoy's base ids are changed, so that nothing else on the machine is met; a command that comes too
early for one in the background is tried again, as a person would.
"""

import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from meshca.demo.ports import free_port
from tests.end_to_end.server import MESHCA
from tests.real_parts import ROOT, envoy, wait_until

pytestmark = pytest.mark.end_to_end
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.M | re.S)
PORTS = ("8443", "8000", "9001", "9002")
RETRY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Command:
    """One command of the README and the output it must have, if the README says."""

    text: str
    output: str


@dataclass(frozen=True, slots=True)
class File:
    """One file of the README."""

    name: str
    text: str


def first_steps() -> Iterator[Command | File]:
    """Yield what the section "First steps" has a reader type and write, in order."""
    section = (ROOT / "README.md").read_text().partition("\n## First steps\n")[2]
    for kind, name, body in BLOCK.findall(section.partition("\n## ")[0]):
        if kind == "console":
            for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
                text, _, output = part.partition("\n")
                yield Command(text, output)
        elif name:
            yield File(name, body)


class Shell:
    """Runs the commands in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ports = {port: str(free_port()) for port in PORTS}
        self.base_ids = random.randrange(100_000, 1_000_000, 10)  # not a secret
        self.environment = {
            **os.environ,
            "PATH": f"{MESHCA.parent}:{Path(envoy()).parent}:{os.environ['PATH']}",
            "MESHCA_LISTEN_MESH": f"127.0.0.1:{self.ports['8443']}",
            "MESHCA_LISTEN_METRICS": f"127.0.0.1:{free_port()}",
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def adapt(self, text: str) -> str:
        """Return `text` with ports and base ids that are free on this machine."""
        for port, mine in self.ports.items():
            text = re.sub(rf"(?<![\w.]){port}(?!\w)", mine, text)
        return re.sub(
            r"--base-id (\d)", lambda match: f"--base-id {self.base_ids + int(match[1])}", text
        )

    def type(self, command: Command) -> None:
        """Run one command; in the foreground it must succeed with the output the README gives."""
        text = self.adapt(command.text)
        if text.startswith("export "):
            name, _, value = text.removeprefix("export ").partition("=")
            self.environment[name] = value
        elif text.endswith(" &"):
            self._start(text.removesuffix(" &"))
        else:
            self._run(text, command.output)

    def _start(self, text: str) -> None:
        with (self.directory / f"log-{len(self.running)}").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {text}"],
                cwd=self.directory,
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.running.append(process)

    def _run(self, text: str, output: str) -> None:
        tries: list[subprocess.CompletedProcess[str]] = []

        def succeeds() -> bool:
            done = subprocess.run(
                ["bash", "-c", text],
                cwd=self.directory,
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            tries.append(done)
            right = done.stdout.strip() == output.strip() if output else "denied" not in done.stdout
            return done.returncode == 0 and right

        try:
            wait_until(succeeds, within_seconds=RETRY_SECONDS, what=text)
        except pytest.fail.Exception as error:
            error.add_note(f"$ {text}\n{tries[-1].stdout}{tries[-1].stderr}")
            raise

    def close(self) -> None:
        """Stop what runs in the background, the last first."""
        for process in reversed(self.running):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.running):
            process.wait(30)


def test_first_steps_of_the_readme_work_as_written(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    try:
        for step in first_steps():
            if isinstance(step, File):
                (tmp_path / step.name).write_text(step.text)
            else:
                shell.type(step)
    finally:
        shell.close()

    assert (tmp_path / "job.pem").read_text().count("BEGIN CERTIFICATE") == 2


def test_the_readme_has_first_steps() -> None:
    commands = [step.text for step in first_steps() if isinstance(step, Command)]

    programs = {command.split()[0] for command in commands}
    assert {"meshca", "envoy", "curl"} <= programs
    assert any(command.startswith("meshca init ") for command in commands)
