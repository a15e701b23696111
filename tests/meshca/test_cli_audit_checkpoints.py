"""Checkpoints, proofs and keys on the command line, against a running server, and without one."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import RunningServer
from tests.meshca.cli import Result, meshca
from tests.meshca.test_cli_server import issue
from tests.real_parts import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    anchors = [{"file": "notes", "every": "1s"}, {"file": "no/such/directory", "every": "1s"}]
    directory = tmp_path_factory.mktemp("checkpoints")
    with RunningServer(directory, settings={"audit": {"anchors": anchors}}) as server:
        wait_until(
            lambda: run(server, "checkpoint").status == 0,
            within_seconds=30,
            what="the first checkpoint",
        )
        yield server


def run(server: RunningServer, *arguments: str) -> Result:
    return meshca("audit", *arguments, environment={"MESHCA_CONFIG": str(server.config)})


def public_key(server: RunningServer) -> str:
    return str(run(server, "keys", "-o", "json").data["keys"][0]["key"])


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_the_log_verifies_with_its_checkpoints_as_anchors(
    server: RunningServer, tmp_path: Path
) -> None:
    anchors = written(tmp_path / "anchors", run(server, "checkpoint", "--all").out)

    result = run(server, "verify", "--anchor", anchors, "--key", public_key(server), "-o", "json")

    assert result.status == 0, result.err
    assert result.data["intact"]
    assert result.data["anchors"] >= 1
    assert result.data["keys"] == [public_key(server)]
    short = run(server, "verify")
    assert "intact: " in short.out
    assert "was not looked at: --index does that" in short.err
    assert result.data["index"] is None
    looked = run(server, "verify", "--index")
    assert "0 segments of 0 entries are well" in looked.out
    assert "was not looked at" not in looked.err


def test_status_says_where_each_anchor_stands_and_what_to_do(server: RunningServer) -> None:
    def status() -> str:
        return meshca("status", environment={"MESHCA_CONFIG": str(server.config)}).out

    wait_until(
        lambda: "behind, confirmed 20" in status() and "  FAILING: " in status(),
        within_seconds=30,
        what="one anchor that is well, and one that is not",
    )
    (failing,) = (line for line in status().splitlines() if "FAILING" in line)
    assert "no/such/directory since 20" in failing
    assert "at 0 entries" in failing
    assert "No such file or directory" in failing
    assert "docs/runbooks/audit-anchors.md" in failing


def test_an_anchor_of_another_history_is_noticed(server: RunningServer, tmp_path: Path) -> None:
    note = run(server, "checkpoint").out
    lines = note.split("\n")
    lines[1] = str(int(lines[1]) - 1)
    anchor = written(tmp_path / "anchor", "\n".join(lines))

    result = run(server, "verify", "--anchor", anchor)

    assert result.status == 1
    assert "NOT intact" in result.err
    assert run(server, "verify", "--anchor", anchor, "-o", "json").data["intact"] is False


def test_an_entry_is_proven_offline(server: RunningServer, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    proof.write_text(run(server, "prove", "0").out)
    keys = written(tmp_path / "keys", public_key(server) + "\n")

    result = meshca("audit", "verify-proof", str(proof), "--key", keys, "-o", "json")

    assert result.status == 0, result.err
    assert (result.data["index"], result.data["redacted"]) == (0, False)
    assert result.data["entry"]["index"] == 0
    assert result.data["keys"] == [public_key(server)]
    shown = meshca("audit", "verify-proof", str(proof), "--key", keys)
    assert "entry 0 is among the first" in shown.err
    assert f"by the word of the key {public_key(server)};" in shown.err
    assert "kind:" in shown.out


def test_a_certificate_is_proven_by_its_serial(server: RunningServer, tmp_path: Path) -> None:
    issued = issue(server, tmp_path, server.token("proven"))
    assert issued.status == 0, issued.err
    (record,) = server.wait_for_records("proven")

    def is_signed() -> bool:
        return run(server, "prove", "--serial", str(record["serial"])).status == 0

    wait_until(is_signed, within_seconds=30, what="a checkpoint over the certificate")
    proof = written(tmp_path / "proof", run(server, "prove", "--serial", str(record["serial"])).out)
    key = public_key(server)
    result = meshca("audit", "verify-proof", proof, "--key", key, "-o", "json")
    assert result.data["entry"]["serial"] == record["serial"]
    assert result.data["entry"]["kind"] == "issuance"


def test_a_proof_that_was_changed_proves_nothing(server: RunningServer, tmp_path: Path) -> None:
    whole = run(server, "prove", "0").out
    key = public_key(server)
    for number, changed in enumerate((whole.replace("index 0", "index 1"), whole[:-9], "", "x\n")):
        proof = written(tmp_path / str(number), changed)
        result = meshca("audit", "verify-proof", proof, "--key", key)
        assert result.status == 1, changed
        assert "proves nothing" in result.err


def test_growth_is_proven_offline_from_a_kept_checkpoint(
    server: RunningServer, tmp_path: Path
) -> None:
    kept = written(tmp_path / "kept", run(server, "checkpoint").out)
    size, key = int(Path(kept).read_text().split("\n")[1]), public_key(server)

    def has_grown() -> bool:
        return int(run(server, "checkpoint").out.split("\n")[1]) > size

    wait_until(has_grown, within_seconds=30, what="a checkpoint over what was read since")
    growth = written(tmp_path / "growth", run(server, "prove-growth", kept).out)
    by_size = run(server, "prove-growth", str(size)).out
    result = meshca("audit", "verify-growth", growth, "--old", kept, "--key", key, "-o", "json")

    assert result.status == 0, result.err
    assert (result.data["old"], result.data["new"] > size) == (size, True)
    assert by_size.startswith(f"old {size}\n")
    lines = Path(growth).read_text().split("\n")
    for number, changed in enumerate(
        (
            "\n".join([f"old {size - 1}", *lines[1:]]),
            "\n".join([lines[0], *lines[2:]]),
            "\n".join(lines[:-2]),
            "",
        )
    ):
        wrong = written(tmp_path / str(number), changed)
        refused = meshca("audit", "verify-growth", wrong, "--old", kept, "--key", key)
        assert refused.status == 1, changed
    newest = written(tmp_path / "newest", run(server, "checkpoint").out)
    other = meshca("audit", "verify-growth", growth, "--old", newest, "--key", key)
    assert "does not prove" in other.err
    assert meshca("audit", "verify-growth", growth, "--old", kept).status == 2
    assert run(server, "prove-growth", growth).status == 2


def test_whoever_verifies_names_a_key(tmp_path: Path, server: RunningServer) -> None:
    proof = written(tmp_path / "proof", run(server, "prove", "0").out)
    empty, wrong = written(tmp_path / "empty", "\n"), "example.org+00000000+AAAA"

    for given, said in (
        ((), "name a public key"),
        (("--key", empty), "no key in it"),
        (("--key", wrong), "verifier key"),
        (("--key", str(tmp_path / "missing")), "No such file"),
    ):
        result = meshca("audit", "verify-proof", proof, *given)
        assert result.status == 2, given
        assert said in result.err
    stranger = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    result = meshca("audit", "verify-proof", proof, "--key", stranger)
    assert (result.status, "no known key signed" in result.err) == (1, True)


def test_one_entry_is_named_one_way(server: RunningServer) -> None:
    assert run(server, "prove").status == 2
    assert run(server, "prove", "1", "--serial", "ab").status == 2
    missing = run(server, "prove", "999999")
    assert (missing.status, "no entry 999999" in missing.err) == (1, True)


def test_files_without_checkpoints_are_no_anchors(server: RunningServer, tmp_path: Path) -> None:
    for name, text, said in (
        ("missing", None, "cannot read"),
        ("empty", "\n", "no checkpoint"),
        ("text", "hello\n", "a note is a text"),
    ):
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        result = run(server, "verify", "--anchor", str(path))
        assert result.status == 1
        assert said in result.err, result.err


def test_the_key_is_rotated_with_overlap(server: RunningServer, tmp_path: Path) -> None:
    first = public_key(server)
    made = run(server, "rotate-key", "-o", "json").data["key"]

    assert made["stage"] == "active"
    assert made["key"] in run(server, "keys").out

    def are_both_signing() -> bool:
        return len(run(server, "checkpoint", "-o", "json").data["keys"]) == 2

    wait_until(are_both_signing, within_seconds=30, what="a checkpoint of both keys")
    for key in (first, made["key"]):
        result = run(server, "verify", "--key", key, "-o", "json")
        assert result.data["intact"], result.data
        assert len(result.data["keys"]) == 2
    entries = run(server, "query", "--kind", "log_key", "-o", "json").data["entries"]
    assert {entry["reason"] for entry in entries} == {"introduced", "rotated"}


def test_the_last_entry_of_a_process_is_signed_for(tmp_path: Path) -> None:
    with RunningServer(tmp_path) as server:
        assert server.stop() == 0
        database = server.config.parent / "meshca.db"
        note = (server.config.parent / "audit" / "last-checkpoint").read_text()
        with contextlib.closing(sqlite3.connect(database)) as connection:
            newest = "SELECT leaf_index, kind FROM audit_entries ORDER BY leaf_index DESC LIMIT 1"
            index, kind = connection.execute(newest).fetchone()

    assert kind == "server_stop"
    assert note.split("\n")[1] == str(index + 1)
