"""Exports on the command line: written by a running server, gone on with, verified offline."""

import csv
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import RunningServer
from tests.meshca.cli import Result, meshca
from tests.real_parts import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("exports")) as server:
        wait_until(
            lambda: run(server, "checkpoint").status == 0,
            within_seconds=30,
            what="the first checkpoint",
        )
        yield server


@pytest.fixture(scope="module")
def key(server: RunningServer) -> str:
    return str(run(server, "keys", "-o", "json").data["keys"][0]["key"])


@pytest.fixture(scope="module")
def whole(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("whole") / "export.jsonl"
    result = run(server, "export", "-o", str(file))
    assert result.status == 0, result.err
    assert f"lines written to {file}" in result.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return file.read_bytes()


def run(server: RunningServer, *arguments: str) -> Result:
    return meshca("audit", *arguments, environment={"MESHCA_CONFIG": str(server.config)})


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_an_export_verifies_without_the_server(whole: bytes, key: str, tmp_path: Path) -> None:
    file, pub = written(tmp_path / "export", whole), tmp_path / "log.pub"
    pub.write_text(f"{key}\n")
    result = meshca("audit", "verify-export", file, "--key", str(pub))
    assert result.status == 0, result.err
    assert "verified: entries 0 to " in result.out
    assert "none changed and none missing" in result.out
    assert "no witness was asked for: whoever has the key that you gave" in result.out
    data = meshca("audit", "verify-export", file, "--key", key, "--output", "json").data
    assert data["verified"]
    assert (data["from"], data["keys"], data["by_given_key"]) == (0, [key], True)
    assert data["retired_keys"] == []
    assert data["shown"] == data["to"] == whole.count(b"\n") - 2


def test_what_does_not_verify_is_named_by_its_line(whole: bytes, key: str, tmp_path: Path) -> None:
    lines = whole.splitlines(keepends=True)
    file = written(tmp_path / "export", b"".join([*lines[:3], *lines[4:]]))
    result = meshca("audit", "verify-export", file, "--key", key)
    assert result.status == 1
    assert "does NOT verify: line 4: " in result.err
    data = meshca("audit", "verify-export", file, "--key", key, "--output", "json")
    assert (data.status, data.data["verified"], data.data["line"]) == (1, False, 4)


def test_without_a_key_nothing_is_verified(whole: bytes, tmp_path: Path) -> None:
    file = written(tmp_path / "export", whole)
    result = meshca("audit", "verify-export", file)
    assert result.status == 2
    assert "name a public key of the log with --key" in result.err


def test_an_interrupted_export_is_gone_on_with(
    server: RunningServer, whole: bytes, key: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "export", whole[: len(whole) // 2])
    result = run(server, "export", "--resume", file)
    assert result.status == 0, result.err
    assert meshca("audit", "verify-export", file, "--key", key).status == 0
    again = run(server, "export", "--resume", file)
    assert again.status == 1
    assert "is complete" in again.err


def test_a_file_that_is_there_is_not_overwritten(server: RunningServer, tmp_path: Path) -> None:
    file = written(tmp_path / "precious", b"mine\n")
    result = run(server, "export", "-o", file)
    assert (result.status, "is there already" in result.err) == (1, True)
    result = run(server, "export", "--resume", file)
    assert (result.status, "is no export" in result.err) == (1, True)
    assert Path(file).read_bytes() == b"mine\n"


def test_a_disk_that_is_full_is_said_and_gone_on_with_later(
    server: RunningServer, key: str, tmp_path: Path
) -> None:
    file = tmp_path / "export"
    program = "import resource, signal, sys; from meshca.cli import main; "
    program += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    program += "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); main()"
    command = [sys.executable, "-c", program, "audit", "export", "-o", str(file)]
    environment = {**os.environ, "MESHCA_CONFIG": str(server.config)}
    full = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert full.returncode == 1
    assert "cannot write: File too large" in full.stderr
    assert f"go on: meshca audit export --resume {file}" in full.stderr
    assert file.stat().st_size == 2000
    assert run(server, "export", "--resume", str(file)).status == 0
    assert meshca("audit", "verify-export", str(file), "--key", key).status == 0


def test_a_refused_export_leaves_no_file(server: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "export"
    result = run(server, "export", "-o", str(file), "--kind", "isuance")
    assert result.status == 1
    assert "unknown kind 'isuance'; known: issuance" in result.err
    assert not file.exists()
    assert run(server, "export").status == 2


def test_the_other_formats_come_to_standard_output(server: RunningServer) -> None:
    command = [
        sys.executable,
        "-c",
        "from meshca.cli import main; main()",
        "audit",
        "export",
        "-o",
        "-",
        "--to-index",
        "3",
    ]
    environment = {**os.environ, "MESHCA_CONFIG": str(server.config)}
    texts = {
        format_: subprocess.run(
            [*command, "--format", format_], env=environment, check=True, capture_output=True
        ).stdout.decode()
        for format_ in ("csv", "ocsf", "cef")
    }
    rows = list(csv.DictReader(texts["csv"].splitlines()))
    assert [row["index"] for row in rows] == ["0", "1", "2"]
    events = [json.loads(line) for line in texts["ocsf"].splitlines()]
    assert [event["metadata"]["sequence"] for event in events] == [0, 1, 2]
    assert [line[:6] for line in texts["cef"].splitlines()] == ["CEF:0|"] * 3
