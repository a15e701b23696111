"""The listeners' certificate changes while clients shake hands, and the process lives on."""

import subprocess
import sys

HANDSHAKES = 800


def test_handshakes_survive_changes_of_the_certificate_and_see_each() -> None:
    command = [sys.executable, "-m", "tests.sds.handshake_burst", str(HANDSHAKES)]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == [str(HANDSHAKES), "9"]
