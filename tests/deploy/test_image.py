"""What the Dockerfile does, done here: the wheel and the locked dependencies in a bare environment.

An editable install hides a package that is missing from the wheel, a file that is not package data
and a dependency that only the developers' lock has; this does not.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.dockerfile import named
from tests.real_parts import ROOT

pytestmark = pytest.mark.end_to_end

PACKAGES = "meshca.wiring, identity, ca, sds, authz, rotation, audit, admin"


def run(*command: str | Path, cwd: Path = Path("/")) -> str:
    """Run `command` and return what it printed; what it complained about fails the test."""
    result = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `bin` of an environment with what the image has."""
    directory = tmp_path_factory.mktemp("image")
    environment = directory / "meshca"
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", directory, cwd=ROOT)
    run(sys.executable, "-m", "venv", environment)
    pip = environment / "bin" / "pip"
    install = ("--disable-pip-version-check", "install", "--quiet", "--no-compile", "--no-deps")
    flags = ("--require-hashes", "--only-binary", ":all:", "--requirement")
    run(pip, *install, *flags, ROOT / "deploy" / "requirements.lock")
    (wheel,) = directory.glob("*.whl")
    run(pip, *install, "--no-index", wheel)
    return environment / "bin"


def test_installs_what_the_dockerfile_installs() -> None:
    (install,) = [r for r in named("RUN") if "deploy/requirements.lock" in r.words]

    assert "--require-hashes --only-binary :all:" in install.text


def test_the_lock_holds_everything_that_the_wheel_needs(programs: Path) -> None:
    run(programs / "pip", "--disable-pip-version-check", "check")


def test_the_program_runs_from_anywhere(programs: Path) -> None:
    assert "Usage: meshca" in run(programs / "meshca", "--help")


def test_the_wheel_holds_every_package(programs: Path) -> None:
    where = run(programs / "python", "-c", f"import {PACKAGES}; print(meshca.__file__)")

    assert Path(where.strip()).is_relative_to(programs.parent)


def test_a_server_can_be_set_up_with_it(programs: Path, tmp_path: Path) -> None:
    run(programs / "meshca", "init", tmp_path / "d", "--trust-domain", "example.org")

    run(programs / "meshca", "config", "check", "--config", tmp_path / "d" / "meshca.yaml")
