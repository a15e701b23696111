"""`meshca demo` tells its story, holds it, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.server import MESHCA
from tests.real_parts import envoy, wait_until

pytestmark = pytest.mark.end_to_end


def test_the_demo_holds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    envoy()
    done = subprocess.run(
        [str(MESHCA), "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "observations held" in done.stdout
    assert "✗" not in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert processes_in(tmp_path) == []


KEPT = "import sys; from meshca.demo import STEPS, run; sys.exit(run(keep=True, steps=STEPS[:1]))"
"""The demo that is kept, with its first chapter only: that starts everything."""


def test_the_demo_that_is_kept_runs_until_told_to_stop(tmp_path: Path) -> None:
    envoy()
    output = tmp_path / "output"
    with output.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", KEPT],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(
            lambda: "meshca status" in output.read_text(),
            within_seconds=180,
            what="it prints what to try",
        )
        assert process.poll() is None
        assert len(processes_in(tmp_path)) == 4  # the server and three proxies
        command = next(
            line.split() for line in output.read_text().splitlines() if "meshca status" in line
        )
        status = subprocess.run(
            [str(MESHCA), *command[1:]], capture_output=True, text=True, timeout=30, check=False
        )
        assert status.returncode == 0, status.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0
    finally:
        process.kill()
        process.wait(10)

    assert processes_in(tmp_path) == []
    (kept,) = tmp_path.glob("meshca-demo-*")
    assert (kept / "server" / "meshca.yaml").exists()


def processes_in(directory: Path) -> list[int]:
    """Return the processes whose command line speaks of `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if str(directory).encode() in arguments:
                found.append(int(entry.name))
    return found
