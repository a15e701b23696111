"""Two services: one is the witness of the other's audit log, and keeps it honest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from audit.anchors.anchor import Published
from audit.checkpoint import split_notes
from audit.note import COSIGNATURE, SigningKey, VerifierKey, verify_note
from meshca.demo.ports import free_port
from tests.end_to_end.server import RunningServer
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end
ORIGIN = "example.org/meshca/audit"


def asked(server: RunningServer, *command: str) -> Any:
    """Return the JSON of a command, whatever its exit status."""
    done = server.run("audit", *command, "--output", "json")
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def configure(server: RunningServer, **changes: Any) -> None:
    """Change keys of a server's configuration; a mapping is added to what there is."""
    config = yaml.safe_load(server.config.read_text())
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value}
    server.config.write_text(yaml.safe_dump(config, sort_keys=False))


@pytest.fixture
def watched_log(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose log is not anchored yet."""
    with RunningServer(tmp_path / "log") as server:
        yield server


def test_another_meshca_cosigns_our_checkpoints(watched_log: RunningServer, tmp_path: Path) -> None:
    def signed() -> bool:
        return bool(asked(watched_log, "keys")["keys"])

    wait_until(signed, within_seconds=60, what="the log has a key")
    ours = [key["key"] for key in asked(watched_log, "keys")["keys"]]
    public = f"127.0.0.1:{free_port()}"
    witness = RunningServer(tmp_path / "w", trust_domain="w.test")
    witness.make()
    logs = [{"origin": ORIGIN, "keys": ours}]
    configure(witness, listen={"public": public}, audit={"witness": {"logs": logs}})
    try:
        witness.start()
        key = httpx.get(f"http://{public}/witness.vkey", timeout=10).text.strip()
        file = tmp_path / "anchor.notes"
        anchors = [
            {"file": str(file), "every": "1s"},
            {"witness": {"url": f"http://{public}", "key": key}, "every": "1s"},
        ]
        watched_log.stop()
        configure(watched_log, audit={"anchors": anchors})
        watched_log.start()

        def well() -> bool:
            states = [a["state"] for a in asked(watched_log, "anchors")["anchors"]]
            return states == ["well", "well"]

        wait_until(well, within_seconds=60, what="both anchors have our checkpoint")
        note = asked(watched_log, "checkpoint", "--all")["checkpoints"]
        cosigned = [n for n in note if "w.test/meshca/witness" in n["checkpoint"]]
        verified = verify_note(
            Published.parse(cosigned[-1]["checkpoint"]).note, [VerifierKey.parse(key)]
        )
        assert verified[0].time_seconds is not None
        assert split_notes(file.read_text())
        intact = asked(watched_log, "verify", "--witness", key, "--anchor", str(file))
        assert intact["intact"]
        assert intact["witnesses"][0]["name"] == "w.test/meshca/witness"
        stranger = SigningKey("x.test", Ed25519PrivateKey.generate(), COSIGNATURE).verifier
        refused = watched_log.run("audit", "verify", "--witness", str(stranger))
        assert (refused.returncode, "cosigned by x.test" in refused.stderr) == (1, True)
        seen = asked(witness, "anchors")["witness"]
        assert seen["logs"][0]["size"] > 0
        kinds = {e["kind"] for e in asked(witness, "query", "--kind", "witness")["entries"]}
        assert kinds == {"witness"}
    finally:
        witness.__exit__()
