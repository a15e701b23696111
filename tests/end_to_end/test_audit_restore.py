"""A real server loses its database, gets its log back, and goes on; the log verifies."""

from pathlib import Path

import pytest

from tests.end_to_end.server import RunningServer
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end

WHY = ("--reason", "test")
ANCHORS = {"audit": {"retention": {"kinds": {"read": "90d"}}, "anchors": [{"file": "notes"}]}}


def test_a_log_is_backed_up_restored_and_goes_on(tmp_path: Path) -> None:
    with RunningServer(tmp_path, settings=ANCHORS) as server:
        hold = server.query("audit", "hold", "--everything", *WHY)["hold"]
        online = server.query("audit", "backup", str(tmp_path / "online.gz"))
        key = server.query("audit", "keys")["keys"][0]["key"]
        assert online["entries"] > 0

        in_use = server.run("audit", "restore", str(tmp_path / "online.gz"), "--key", key, *WHY)
        assert in_use.returncode == 1
        assert "a server runs on this database" in in_use.stderr

        server.stop()
        direct = server.query("audit", "backup", str(tmp_path / "direct.gz"), "--direct")
        assert direct["entries"] > online["entries"]
        for path in server.config.parent.glob("meshca.db*"):
            path.rename(tmp_path / path.name)

        older = server.run("audit", "restore", str(tmp_path / "online.gz"), "--key", key, *WHY)
        assert older.returncode == 1
        assert "find a newer backup" in older.stderr
        restored = server.query("audit", "restore", str(tmp_path / "direct.gz"), "--key", key, *WHY)
        assert (restored["entries"], restored["lost"]) == (direct["entries"], 0)

        server.start()
        (held,) = server.query("audit", "holds")["holds"]
        assert held["hold"] == hold

        def is_signed_anew() -> bool:
            return bool(server.query("audit", "checkpoint")["size"] > direct["entries"] + 1)

        wait_until(is_signed_anew, within_seconds=30, what="a checkpoint of what was appended")
        anchor = str(server.config.parent / "notes")
        verified = server.query("audit", "verify", "--key", key, "--anchor", anchor)
        assert verified["intact"]
        assert verified["anchors"] > 0
        assert server.query("audit", "query", "--kind", "restore")["entries"]
