"""Searching the audit log on the command line, against a running server."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.entry import Entry
from tests.admin.world import World, running
from tests.audit.test_log import entry
from tests.end_to_end.server import RunningServer, spiffe_id
from tests.meshca.cli import Result, meshca
from tests.meshca.test_cli_server import issue

ORDERS = spiffe_id("orders")
HOSTILE: dict[str, Any] = {
    "kind": "refusal",
    "outcome": "refused",
    "cluster": "us",
    "reason": "\x1b]0;owned\x07",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("queries")) as server:
        assert issue(server, tmp_path_factory.mktemp("token"), server.token("orders")).status == 0
        ban = ("svid", "ban", "--node", "worker-7", "--why", "stolen")
        assert meshca(*ban, environment={"MESHCA_CONFIG": str(server.config)}).status == 0
        yield server


def run(server: RunningServer, *arguments: str) -> Result:
    return meshca("audit", *arguments, environment={"MESHCA_CONFIG": str(server.config)})


def test_a_certificate_is_found_by_its_serial_in_any_spelling(server: RunningServer) -> None:
    named = ("query", "--identity", ORDERS, "--kind", "issuance", "-o", "json")
    (issued,) = run(server, *named).data["entries"]
    serial = issued["serial"].upper()
    for spelling in (serial, f"0x{serial}", ":".join(serial)):
        found = run(server, "query", "--serial", spelling, "--kind", "issuance", "-o", "json")
        assert [entry["index"] for entry in found.data["entries"]] == [issued["index"]]


def test_a_filter_that_cannot_be_is_named(server: RunningServer) -> None:
    result = run(server, "query", "--serial", "xyz")
    assert result.status == 1
    assert "serial 'xyz' is not a hexadecimal number" in result.err
    assert run(server, "query", "--namespace", "").status == 1


def test_entries_are_counted_and_grouped(server: RunningServer) -> None:
    bans = run(server, "query", "--kind", "ban", "--count")
    assert (bans.out, bans.err) == ("1\n", "")
    grouped = run(server, "query", "--group-by", "kind", "-o", "json").data
    kinds = {group["value"]: group["count"] for group in grouped["groups"]}
    assert (kinds["ban"], grouped["exact"]) == (1, True)
    shown = run(server, "query", "--group-by", "kind", "--limit", "2")
    assert shown.out.splitlines()[0].split() == ["KIND", "ENTRIES"]
    assert "the first 2 of" in shown.err
    wrong = run(server, "query", "--group-by", "color")
    assert (wrong.status, "known: kind, outcome" in wrong.err) == (1, True)


def test_text_is_found_anywhere_in_any_case(server: RunningServer) -> None:
    named = ("query", "--text", "STOLEN", "--kind", "ban")
    assert "stolen" in run(server, *named).out
    (entry,) = run(server, *named, "-o", "json").data["entries"]
    shown = run(server, "show", str(entry["index"]))
    assert (shown.status, "details.ban" in shown.out) == (0, True)
    assert run(server, "show", str(entry["index"]), "-o", "json").data == entry


def test_an_entry_that_is_not_there_is_not_found(server: RunningServer) -> None:
    result = run(server, "show", "999999")
    assert (result.status, result.out) == (1, "")
    assert "the log has no entry 999999" in result.err


@pytest.mark.parametrize(
    "arguments",
    [("--follow", "--count"), ("--follow", "--until", "1h"), ("--count", "--cursor", "3")],
)
def test_what_does_not_go_together_is_wrong_usage(
    server: RunningServer, arguments: tuple[str, ...]
) -> None:
    assert run(server, "query", *arguments).status == 2


def follow(world: World, *arguments: str) -> subprocess.Popen[str]:
    script = Path(sys.executable).with_name("meshca")
    command = [str(script), "audit", "query", "--follow", "--url", f"unix:{world.socket}"]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def followed(directory: Path, *arguments: str) -> tuple[list[str], str, int]:
    """Return what following shows of two entries, and how it ends when the server stops."""

    async def story() -> tuple[list[str], str, int]:
        async with running(directory) as world:
            process = follow(world, "--cluster", "us", "--cursor", "0", *arguments)
            try:
                await world.writer.submit(entry(4, cluster="us"), entry(5, cluster="eu"))
                hostile = Entry(**{**HOSTILE, "time": world.clock.now()})
                await world.writer.submit(hostile)
                assert process.stdout is not None
                told = [await asyncio.to_thread(process.stdout.readline) for _ in range(2)]
                world.state.stopping.set()
                _, err = await asyncio.to_thread(process.communicate, timeout=60)
                return told, err, process.returncode
            finally:
                process.kill()
                process.communicate()

    return asyncio.run(story())


def test_following_shows_what_comes_until_the_server_ends(tmp_path: Path) -> None:
    told, err, status = followed(tmp_path, "-o", "json")
    assert [json.loads(line)["cluster"] for line in told] == ["us", "us"]
    assert "ended: the server is stopping; go on with --cursor" in err
    assert status == 0


def test_what_was_logged_never_reaches_the_terminal_as_it_is(tmp_path: Path) -> None:
    told, _, _ = followed(tmp_path)
    assert "refusal  refused" in told[1]
    assert "owned" in told[1]
    assert "\x1b" not in told[1]
