"""Real Envoys for end-to-end tests.

`RunningEnvoy` starts the program and stops it; it waits for nothing but its admin interface, since
an Envoy without secrets rightly never gets ready. Tests then await what they are about. The app to
put behind one is `meshca.demo.app.EchoApp`.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

from meshca.demo.envoy_admin import EnvoyAdmin
from tests.real_parts import envoy, wait_until

OPTIONS = (
    *("--concurrency", "1", "--disable-hot-restart"),
    *("--file-flush-interval-msec", "50"),  # so that access logs can be read at once
)


class RunningEnvoy(EnvoyAdmin):
    """One Envoy process running the bootstrap file `path`, whose admin listens on `admin_port`."""

    def __init__(self, path: Path, *, admin_port: int) -> None:
        super().__init__(admin_port)
        self.path = path
        self.log = path.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [envoy(), "-c", str(self.path), *OPTIONS], stdout=log, stderr=log
            )
        wait_until(self._answers, within_seconds=20, what=f"the admin interface of {self.path}")
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self.client.close()
        error = raised[1] if raised else None
        if isinstance(error, BaseException):
            error.add_note(f"--- {self.log}\n{self.log_text()[-6000:]}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log_text()[-4000:]
        return self.answers()

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._process is not None
        return self._process.pid

    def wait_ready(self, within_seconds: float = 20) -> None:
        """Wait until every listener takes connections; fail at the deadline."""
        wait_until(self.is_ready, within_seconds=within_seconds, what=f"{self.path} is ready")

    def log_text(self) -> str:
        """Return what Envoy has written: its log and the access log."""
        return self.log.read_text(errors="replace")

    def call(
        self,
        port: int,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Call through one of this Envoy's outbound ports, as its app would."""
        return self.client.request(method, f"http://127.0.0.1:{port}{path}", headers=headers)
