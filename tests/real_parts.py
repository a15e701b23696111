"""Finding the real programs that end-to-end tests run, and refusing to skip them in CI."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def require(found: bool, what: str, how: str) -> None:
    """Skip the test when `what` is missing, naming the command that gets it; in CI, fail."""
    if found:
        return
    message = f"{what} is missing; get it with: {how}"
    if os.environ.get("MESHCA_REQUIRE_ALL") == "1":
        pytest.fail(message)
    pytest.skip(message)


def envoy() -> str:
    """Return the path of the envoy program."""
    found = shutil.which("envoy", path=f"{ROOT / '.venv' / 'bin'}:{os.environ.get('PATH', '')}")
    require(found is not None, "envoy", "make .venv/.ready")
    assert found is not None
    return found


CHROMIUM_OPTIONS = ("--no-sandbox", "--disable-dev-shm-usage")
"""For root, and for machines whose shared memory is too small for a page."""


def chromium() -> str:
    """Return the path of the browser."""
    found = shutil.which("chromium")
    require(found is not None, "chromium", "apt-get install chromium")
    assert found is not None
    return found


def wait_until(condition: Callable[[], bool], *, within_seconds: float, what: str) -> None:
    """Poll `condition` until it holds; fail, saying `what` was awaited, at the deadline.

    At most half of the time goes into asking: what is awaited needs the machine, too.
    """
    began = time.monotonic()
    while True:
        asked = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > began + within_seconds:
            pytest.fail(f"not within {within_seconds} s: {what}")
        time.sleep(max(0.02, now - asked))
