"""Guards of layout and layering: what other tools would only notice in a user's installation."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from tests.real_parts import ROOT

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOL: dict[str, Any] = PYPROJECT["tool"]
PACKAGES: list[str] = TOOL["hatch"]["build"]["targets"]["wheel"]["packages"]
LAYERS: list[str] = TOOL["importlinter"]["contracts"][0]["layers"]
CLOCK = ROOT / "meshca" / "clock.py"


@pytest.mark.parametrize("name", PACKAGES)
def test_no_other_distribution_provides(name: str) -> None:
    assert set(packages_distributions().get(name, [])) <= {"meshca"}


def test_every_list_names_the_same_packages() -> None:
    on_disk = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert on_disk == set(PACKAGES) == set(TOOL["importlinter"]["root_packages"])
    assert on_disk <= set(TOOL["mypy"]["files"])
    assert on_disk <= set(TOOL["ruff"]["lint"]["isort"]["known-first-party"])


def test_every_module_of_the_kernel_is_in_a_layer() -> None:
    named = set(re.findall(r"[\w.]+", " ".join(LAYERS)))
    parts = [*(ROOT / "meshca").glob("*.py"), *(ROOT / "meshca").glob("*/__init__.py")]
    modules = {f"meshca.{p.parent.name if p.stem == '__init__' else p.stem}" for p in parts}
    assert modules - {"meshca.meshca"} <= named


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_only_the_clock_reads_the_time() -> None:
    reads = re.compile(r"\bdatetime\.(?:now|utcnow|today)\(|\btime\.(?:time|monotonic)(?:_ns)?\(")
    found = [path for path in sources() if reads.search(path.read_text())]
    assert found == [CLOCK]


def test_the_pattern_of_the_test_above_sees_a_reading() -> None:
    assert "datetime.now(" in CLOCK.read_text()
    assert "time.monotonic(" in CLOCK.read_text()


def test_no_file_is_too_long_to_hold_one_idea() -> None:
    generated = ROOT / "sds" / "proto"
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources()
        if generated not in path.parents and (lines := path.read_text().count("\n")) > 400
    }
    assert long == {}


def test_nothing_is_imported_relatively_and_no_todo_is_without_an_issue() -> None:
    relative = re.compile(r"^\s*from \.", re.MULTILINE)
    todo = re.compile(r"\b(?:TODO|FIXME|XXX)\b(?! \(#\d+\))")
    assert [p for p in sources() if relative.search(p.read_text())] == []
    assert [p for p in sources() if todo.search(p.read_text())] == []


def distribution(requirement: str) -> str:
    """Return the normalised name that a requirement begins with."""
    name = re.split(r"[\[<>=~!; ]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_we_import_is_locked_with_its_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    declared: list[str] = PYPROJECT["project"]["dependencies"]
    entries = re.split(r"^(?=[\w.-]+==)", lock, flags=re.MULTILINE)[1:]
    assert {distribution(name) for name in declared} <= {distribution(e) for e in entries}
    assert [distribution(entry) for entry in entries if "--hash=sha256:" not in entry] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "-d", str(directory)],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (built,) = directory.glob("*.whl")
    return built


def test_the_wheel_holds_every_module_of_every_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert {str(path.relative_to(ROOT)) for path in sources()} <= held
    assert not any(name.startswith(("tests/", "benchmarks/", "docs/")) for name in held)


def test_the_wheel_holds_and_serves_every_file_of_the_console(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys, admin.console as c; assert c.__file__.startswith(sys.argv[1]), c;"
        "c.create_router(); print(*sorted(c.read_files(c.web())))"
    )
    served = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert served.stdout.split() == sorted(path.name for path in (ROOT / "admin/web").iterdir())


def test_the_wheel_runs_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = (
        "import meshca.cli, sys; assert meshca.cli.__file__.startswith(sys.argv.pop()), meshca;"
        "from meshca.cli import main; main(['config', 'check', '--config', '/none'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "there is no configuration at /none" in ended.stderr
