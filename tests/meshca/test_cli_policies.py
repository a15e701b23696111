"""The applied set from the command line: applied, previewed, deleted, brought back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.server import RunningServer, allow
from tests.meshca.cli import Result, meshca


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("cli")) as server:
        yield server


def run(server: RunningServer, *arguments: str) -> Result:
    return meshca("authz", *arguments, environment={"MESHCA_CONFIG": str(server.config)})


def change(server: RunningServer, *arguments: str) -> Any:
    """Return what a change that must be taken says."""
    result = run(server, *arguments, "--reason", "INC-1", "-o", "json")
    assert result.status == 0, result.err
    return result.data


def write(directory: Path, *callers: str) -> Path:
    """Write a directory with one file for each caller of orders."""
    directory.mkdir()
    for caller in callers:
        (directory / f"{caller}.yaml").write_text(yaml.safe_dump(allow(caller, "orders")))
    return directory


def names(server: RunningServer) -> list[str]:
    return [each["name"] for each in run(server, "get", "-o", "json").data["policies"]]


def test_a_story_of_the_applied_set(server: RunningServer, tmp_path: Path) -> None:
    two = write(tmp_path / "two", "frontend", "payments")
    first = change(server, "apply", "-f", str(two))
    assert first["added"] == ["shop/frontend-orders", "shop/payments-orders"]

    preview = run(server, "delete", "shop/payments-orders", "--reason", "x", "--dry-run")
    assert "removed shop/payments-orders" in preview.out
    assert "-  name: payments-orders" in preview.out
    assert len(names(server)) == 2

    change(server, "delete", "shop/payments-orders", "--expect-version", "1")
    assert names(server) == ["frontend-orders"]

    late = run(server, "rollback", "1", "--reason", "x", "--expect-version", "1")
    assert (late.status, late.out) == (1, "")
    assert "version 2 by now, not 1" in late.err

    assert change(server, "rollback", "1")["applied_version"] == 3
    assert names(server) == ["frontend-orders", "payments-orders"]
    versions = run(server, "history", "-o", "json").data["versions"]
    assert [version["version"] for version in versions] == [3, 2, 1]
    assert "INC-1" in run(server, "history").out
    shown = run(server, "get", "--version", "2", "--documents").out
    assert "payments-orders" not in shown
    assert "frontend-orders" in run(server, "get", "--version", "2").out


def test_an_empty_set_must_be_meant(server: RunningServer, tmp_path: Path) -> None:
    change(server, "apply", "-f", str(write(tmp_path / "one", "frontend")))
    assert run(server, "apply", "--reason", "x").status == 2
    empty = tmp_path / "empty.yaml"
    empty.write_text("# nothing\n")
    refused = run(server, "apply", "-f", str(empty), "--reason", "x")
    assert (refused.status, "holds no policy" in refused.err) == (1, True)
    assert change(server, "apply", "--empty")["removed"] == ["shop/frontend-orders"]
    assert names(server) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rollback", "99"), "no policy set with version 99"),
        (("delete", "shop/nobody"), "the applied set holds no shop/nobody"),
        (("get", "--version", "99"), "no policy set with version 99"),
    ],
    ids=["rollback", "delete", "get"],
)
def test_what_is_not_there_is_said(
    server: RunningServer, arguments: tuple[str, ...], message: str
) -> None:
    reason = () if arguments[0] == "get" else ("--reason", "x")
    result = run(server, *arguments, *reason)
    assert (result.status, result.out) == (1, "")
    assert message in result.err
