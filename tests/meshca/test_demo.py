"""The demo's parts: it must notice what does not hold, and stop what it started."""

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from rich.console import Console

from meshca import demo
from meshca.clock import SystemClock
from meshca.demo.app import EchoApp
from meshca.demo.mesh import Mesh
from meshca.demo.observation import DemoFailed, Seen, observe, wait_until
from meshca.demo.ports import free_port
from meshca.demo.probes import forge
from meshca.demo.processes import Processes
from meshca.demo.screen import Screen
from meshca.demo.traffic import Traffic
from tests import real_parts

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def holds(mesh: Mesh) -> Iterator[Seen]:
    """One thing that holds."""
    yield observe("sum", expected=2, seen=1 + 1)


def does_not_hold(mesh: Mesh) -> Iterator[Seen]:
    """One thing that does not."""
    yield observe("sum", expected=3, seen=1 + 1)


def breaks(mesh: Mesh) -> Iterator[Seen]:
    """Something does not happen."""
    raise DemoFailed("the server did not start")
    yield


STORIES = {
    "everything holds": ((holds, holds), 0),
    "one observation does not hold": ((does_not_hold, holds), 1),
    "a step breaks": ((holds, breaks), 1),
}


@pytest.mark.parametrize("case", STORIES)
def test_exits_0_only_if_each_observation_held(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    looks, status = STORIES[case]

    assert demo.run(keep=False, steps=[demo.Step("a step", look) for look in looks]) == status

    assert ("✗" in capsys.readouterr().out) == (status == 1)


def test_a_step_that_breaks_ends_the_story(capsys: pytest.CaptureFixture[str]) -> None:
    demo.run(keep=False, steps=[demo.Step("first", breaks), demo.Step("second", holds)])

    shown = capsys.readouterr().out
    assert "the server did not start" in shown
    assert "second" not in shown


def test_shows_what_was_expected_of_what_did_not_hold() -> None:
    console = Console(file=io.StringIO(), width=80)
    screen = Screen(console)

    screen.show([observe("the answer", expected=200, seen=403)])

    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().split() == [
        "✗",
        "the",
        "answer",
        "expected:",
        "200",
        "saw:",
        "403",
    ]
    assert (screen.held, screen.failed) == (0, 1)


def test_stops_every_process_when_something_goes_wrong(tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def go_wrong() -> None:
        with Processes(tmp_path) as processes:
            started.extend(processes.start(name, SLEEP).process for name in ("one", "two"))
            raise DemoFailed("gone wrong")

    with pytest.raises(DemoFailed, match="gone wrong"):
        go_wrong()

    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


def test_notices_a_process_that_ended_and_shows_its_last_words(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        dying = [sys.executable, "-c", "import sys; sys.exit('no such port')"]
        ended = processes.start("server", dying)
        ended.process.wait(20)

        with pytest.raises(DemoFailed, match=r"server ended with status 1:\nno such port"):
            processes.check()


def test_does_not_wait_for_ever() -> None:
    with pytest.raises(DemoFailed, match="not within 0 s: the moon"):
        wait_until(lambda: False, within_seconds=0, what="the moon", clock=SystemClock())


def test_traffic_counts_what_fails() -> None:
    nobody = free_port()
    with EchoApp() as app, Traffic(app.port) as good, Traffic(nobody) as bad:
        real_parts.wait_until(
            lambda: good.requests > 10 and bad.requests > 10,
            within_seconds=20,
            what="requests",
        )

    assert (good.failed, good.failures) == (0, [])
    assert bad.failed == bad.requests
    assert "ConnectionRefusedError" in bad.failures[0]


def test_a_forged_token_differs_in_its_signature_only() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    token = jwt.encode({"sub": "x"}, key, algorithm="ES256", headers={"kid": "k"})

    forged = forge(token)

    assert jwt.get_unverified_header(forged)["kid"] == "k"
    assert forged.split(".")[1] == token.split(".")[1]
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(forged, key.public_key(), algorithms=["ES256"])
