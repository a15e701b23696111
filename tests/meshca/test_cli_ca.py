"""`meshca ca` against a real server: shown, stepped by hand, a root replaced, refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import RunningServer
from tests.meshca.cli import Result, meshca


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with RunningServer(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server for what changes nothing."""
    with RunningServer(tmp_path_factory.mktemp("refusals")) as server:
        yield server


def run(server: RunningServer, *arguments: str) -> Result:
    return meshca(*arguments, environment={"MESHCA_CONFIG": str(server.config)})


def shown(server: RunningServer) -> Any:
    return run(server, "ca", "show", "-o", "json").data


def stages(server: RunningServer) -> dict[str, str]:
    return {a["authority_id"]: a["stage"] for a in shown(server)["authorities"]}


def test_a_successor_is_prepared_activated_and_the_first_one_tainted(
    server: RunningServer,
) -> None:
    first = shown(server)["signing"]
    second = run(server, "ca", "prepare", "--reason", "drill").out.strip()
    assert stages(server) == {first: "active", second: "published"}
    assert run(server, "ca", "prepare", "--reason", "drill").out.strip() == second
    done = run(server, "ca", "activate", second, "--reason", "drill")
    assert (done.status, shown(server)["signing"]) == (0, second), done.err
    assert run(server, "ca", "taint", first, "--reason", "stolen").status == 0
    assert stages(server) == {first: "tainted", second: "active"}
    early = run(server, "ca", "revoke", first, "--reason", "stolen")
    assert early.status == 1
    assert f"meshca svid list --authority {first}" in early.err
    table = run(server, "ca", "history").out
    assert "stolen" in table
    assert "tainted" in run(server, "ca", "show").out


def test_a_root_is_replaced(server: RunningServer) -> None:
    rehearsal = run(server, "ca", "rotate-root", "--dry-run")
    assert rehearsal.status == 1
    assert "only one root" in rehearsal.err
    made = run(server, "dev", "root").out.strip()
    begun = run(server, "ca", "rotate-root", "--reason", "drill")
    assert (begun.status, made in begun.err) == (0, True), begun.err
    roots = {r["root_sha256"]: r["stage"] for r in shown(server)["roots"]}
    assert roots.pop(made) == "trusted"
    assert list(roots.values()) == ["retiring"]
    assert {p["name"] for p in shown(server)["phases"] if p["remaining"] == 0} >= {
        "announce",
        "propagate",
        "switch",
    }


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("ca", "activate", "ab" * 20, "--reason", "x"), 1, "no authority abab"),
        (("ca", "taint", "../../etc", "--reason", "x"), 2, "not an id"),
        (("ca", "rotate-root"), 2, "--reason"),
        (("ca", "rotate-root", "--reason", "x"), 1, "no other root"),
        (("ca", "rotate-root", "--reason", "x", "--to", "ab" * 32), 1, "no root abab"),
        (("ca", "rotate-root", "--reason", "x", "--to", "newest"), 2, "not an id"),
        (("ca", "drop-root", "ab" * 32, "--reason", "x"), 1, "no root abab"),
        (("ca", "waive", "ab" * 32, "spiffe://example.org/x", "--reason", "x"), 1, "no root"),
    ],
)
def test_what_is_refused_says_why(
    untouched: RunningServer, arguments: tuple[str, ...], status: int, says: str
) -> None:
    result = run(untouched, *arguments)
    assert (result.status, says in result.err) == (status, True), result.err
