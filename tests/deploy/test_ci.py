"""`.ci/run` with stand-ins for make and apt: what it makes of the results of its steps."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.real_parts import ROOT

PASSED = "=== 120 passed in 61.50s (0:01:01) ==="

# Says what it was asked; `make test` prints the summary it was given.
MAKE = """#!/bin/sh
echo "make $* MESHCA_REQUIRE_ALL=$MESHCA_REQUIRE_ALL stdin=$(wc -c)"
[ "$*" = test ] && echo "$SUMMARY"
[ "$*" != "$FAILING" ]
"""
QUIET = "#!/bin/sh\n"


def ci(directory: Path, *, summary: str = PASSED, failing: str = "") -> tuple[int, list[str]]:
    """Return the exit status of `.ci/run` and the lines it printed."""
    for name, text in {"make": MAKE, "apt-get": QUIET, "sudo": QUIET, "etcd": QUIET}.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    result = subprocess.run(
        [ROOT / ".ci" / "run"],
        env={
            **os.environ,
            "PATH": f"{directory}:{os.environ['PATH']}",
            "SUMMARY": summary,
            "FAILING": failing,
            "MESHCA_REQUIRE_ALL": "",
        },
        input="not to be read",
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout.splitlines()


def test_runs_the_checks_the_assets_and_every_test(tmp_path: Path) -> None:
    status, lines = ci(tmp_path)

    assert status == 0
    assert [line for line in lines if line.startswith("make ")] == [
        "make check MESHCA_REQUIRE_ALL= stdin=0",
        "make test-assets MESHCA_REQUIRE_ALL= stdin=0",
        "make test MESHCA_REQUIRE_ALL=1 stdin=0",
    ]


@pytest.mark.parametrize("failing", ["check", "test-assets", "test"])
def test_fails_when_a_step_fails_and_still_ends_with_the_summary(
    tmp_path: Path, failing: str
) -> None:
    status, lines = ci(tmp_path, failing=failing)

    assert status == 1
    assert f"FAILED; make {failing}" in lines[-2]
    assert lines[-1] == PASSED


@pytest.mark.parametrize(
    "summary",
    [
        "=== 120 passed, 1 skipped in 61.50s (0:01:01) ===",
        "=== 119 passed, 1 xfailed in 61.50s ===",
        "=== 1 failed, 119 passed in 61.50s ===",
        "=== 119 passed, 2 errors in 61.50s ===",
        "=== no tests ran in 0.01s ===",
    ],
)
def test_fails_when_a_test_did_not_pass(tmp_path: Path, summary: str) -> None:
    status, lines = ci(tmp_path, summary=summary)

    assert status == 1
    assert lines[-1] == summary


def test_fails_when_pytest_printed_no_summary(tmp_path: Path) -> None:
    status, lines = ci(tmp_path, summary="Killed")

    assert status == 1
    assert lines[-1] == "pytest did not finish"
