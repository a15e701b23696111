"""Real Envoys and a small app behind them, for end-to-end tests.

`RunningEnvoy` starts the program and stops it; it waits for nothing but its admin interface, since
an Envoy without secrets rightly never gets ready. Tests then await what they are about.
"""

import json
import subprocess
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.real_parts import envoy, wait_until


class RunningEnvoy:
    """One Envoy process running the bootstrap file `path`, whose admin listens on `admin_port`."""

    def __init__(self, path: Path, *, admin_port: int) -> None:
        self.path = path
        self.admin = f"http://127.0.0.1:{admin_port}"
        self.log = path.with_suffix(".log")
        self.client = httpx.Client(timeout=5.0, trust_env=False)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        arguments = ["-c", str(self.path), "--concurrency", "1", "--disable-hot-restart"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([envoy(), *arguments], stdout=log, stderr=log)
        wait_until(self._answers, within_seconds=20, what=f"the admin interface of {self.path}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self.client.close()
        if error is not None:
            error.add_note(f"--- {self.log}\n{self.log_text()[-6000:]}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")[-4000:]
        try:
            self.client.get(f"{self.admin}/ready")
        except httpx.TransportError:
            return False
        return True

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._process is not None
        return self._process.pid

    def is_ready(self) -> bool:
        """Return whether every listener has its secrets and takes connections."""
        return self.client.get(f"{self.admin}/ready").status_code == 200

    def wait_ready(self, within_seconds: float = 20) -> None:
        """Wait until every listener takes connections; fail at the deadline."""
        wait_until(self.is_ready, within_seconds=within_seconds, what=f"{self.path.stem} ready")

    def certs(self) -> list[dict[str, Any]]:
        """Return the certificates Envoy has loaded, with their chains, as /certs has them."""
        certificates: list[dict[str, Any]] = self._json("/certs")["certificates"]
        return certificates

    def serials(self) -> set[str]:
        """Return the serials (hex, lowercase, no leading zeros) of the SVIDs loaded now."""
        leaves = [leaf for each in self.certs() for leaf in each.get("cert_chain", [])[:1]]
        return {str(leaf["serial_number"]).lstrip("0").lower() for leaf in leaves}

    def config_dump(self, resource: str = "dynamic_active_secrets") -> list[dict[str, Any]]:
        """Return the resources of one kind that Envoy holds, keys redacted."""
        dump = self._json(f"/config_dump?resource={resource}")
        configs: list[dict[str, Any]] = dump.get("configs", [])
        return configs

    def stats(self, pattern: str = "") -> dict[str, int]:
        """Return the counters and gauges whose name matches the regular expression `pattern`."""
        answer = self._json(f"/stats?format=json&filter={pattern}")
        return {each["name"]: int(each["value"]) for each in answer["stats"] if "name" in each}

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

    def _json(self, path: str) -> dict[str, Any]:
        answer: dict[str, Any] = self.client.get(self.admin + path).raise_for_status().json()
        return answer


class EchoApp:
    """An HTTP app on 127.0.0.1 that answers with the method, path and headers it saw, as JSON."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Echo)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return int(self._server.server_address[1])


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = {"method": self.command, "path": self.path, "headers": headers}
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  # the names http.server looks for

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the inherited name
        """Stay quiet."""
