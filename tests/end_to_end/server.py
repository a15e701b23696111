"""A real server in a process of its own, made and asked only through the command line."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from meshca.demo.ports import free_port
from tests.audit_table import check_database
from tests.meshca.cli import meshca
from tests.real_parts import wait_until

TRUST_DOMAIN = "example.org"
NAMESPACE = "shop"
MESHCA = Path(sys.executable).with_name("meshca")


def spiffe_id(service_account: str, trust_domain: str = TRUST_DOMAIN) -> str:
    """Return the ID of a service account of the development cluster."""
    return f"spiffe://{trust_domain}/ns/{NAMESPACE}/sa/{service_account}"


def allow(caller: str, called: str, **operation: list[str]) -> dict[str, Any]:
    """Return the policy that lets `caller` do `operation` (anything, by default) at `called`."""
    source = {"principals": [f"{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{caller}"]}
    rule: dict[str, Any] = {"from": [{"source": source}]}
    if operation:
        rule["to"] = [{"operation": operation}]
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": f"{caller}-{called}", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": called}},
            "action": "ALLOW",
            "rules": [rule],
        },
    }


class RunningServer:
    """One server under `directory`; `settings` and `lifetimes` go into its configuration.

    With `root_of` it is below the development root of that server, in the same files.
    """

    def __init__(
        self,
        directory: Path,
        *,
        trust_domain: str = TRUST_DOMAIN,
        settings: Mapping[str, Any] | None = None,
        root_of: "RunningServer | None" = None,
        **lifetimes: str,
    ) -> None:
        self.directory = directory
        self.trust_domain = trust_domain
        self.settings = settings or {}
        self.root_of = root_of
        self.config = directory / "server" / "meshca.yaml"
        self.roots = directory / "server" / "pki" / "root.pem"
        self.log = directory / "server.log"
        self.port = free_port()
        self.metrics_port = free_port()
        self.lifetimes = lifetimes
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.make()
        self.start()
        return self

    def make(self) -> None:
        """Make its directory and its configuration; nothing runs yet."""
        self.directory.mkdir(exist_ok=True)
        self.meshca("init", str(self.config.parent), "--trust-domain", self.trust_domain)
        config = yaml.safe_load(self.config.read_text())
        config["listen"] = {
            "mesh": f"127.0.0.1:{self.port}",
            "metrics": f"127.0.0.1:{self.metrics_port}",
        }
        config["lifetimes"].update(self.lifetimes)
        config.update(self.settings)
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))
        if self.root_of is not None:
            shutil.rmtree(self.roots.parent)
            self.roots.parent.symlink_to(self.root_of.roots.parent)

    def __exit__(self, *raised: object) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)
        error = raised[1] if raised else None
        if error is None:
            for path in self.config.parent.rglob("meshca.db"):
                check_database(path)
        if isinstance(error, BaseException):
            error.add_note(f"--- {self.log}\n{self.log_text()[-6000:]}")

    def start(self) -> None:
        """Start the process and wait until it can sign."""
        with self.log.open("ab") as log:
            command = [str(MESHCA), "serve", "--config", str(self.config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(self.is_ready, within_seconds=60, what="the server is ready")
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end and return the exit status."""
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(30)
        self._process = None
        return status

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let the process do nothing, and answer nobody, while the `with` block runs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def is_ready(self) -> bool:
        """Return whether /readyz says so; fail when the process has ended."""
        assert self._process is not None
        assert self._process.poll() is None, self.log_text()[-4000:]
        try:
            asking = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=5)
            with contextlib.closing(asking):
                asking.request("GET", "/readyz")
                return asking.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False

    def log_text(self) -> str:
        """Return what the server has logged."""
        return self.log.read_text(errors="replace")

    def run(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run the `meshca` program with this server's configuration, in a process of its own."""
        given = {**os.environ, "MESHCA_CONFIG": str(self.config), **(environment or {})}
        command = [str(MESHCA), *arguments]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=given,
            timeout=60,
            check=False,
            cwd=self.directory,
        )

    def meshca(self, *arguments: str) -> str:
        """Run a command, which must succeed, in this process, and return what it printed."""
        self.directory.mkdir(exist_ok=True)
        environment = {"MESHCA_CONFIG": str(self.config)}
        done = meshca(*arguments, environment=environment, directory=self.directory)
        assert done.status == 0, f"meshca {' '.join(arguments)}: {done.err}"
        return done.out

    def query(self, *arguments: str) -> Any:
        """Return the data that a `meshca` command prints."""
        return json.loads(self.meshca(*arguments, "--output", "json"))

    def token(self, service_account: str, *options: str) -> str:
        """Return a fresh token of a service account in the namespace `shop`."""
        names = ("--namespace", NAMESPACE, "--service-account", service_account)
        return self.meshca("dev", "token", *names, *options).strip()

    def wait_in_step(self) -> None:
        """Wait until no connected proxy is behind: acknowledgements take a moment."""
        wait_until(
            lambda: not self.query("proxies", "--behind")["proxies"],
            within_seconds=20,
            what="every proxy has acknowledged what it was sent",
        )

    def wait_for_records(self, service_account: str) -> list[dict[str, Any]]:
        """Return the certificates of a service account once each signature is on record.

        A certificate is out a moment before: its serial is known, it itself is not yet.
        """
        shown: list[dict[str, Any]] = []

        def is_on_record() -> bool:
            asked = ("svid", "list", "--service-account", service_account)
            shown[:] = self.query(*asked)["svids"]
            return {svid["status"] for svid in shown} == {"issued"}

        wait_until(is_on_record, within_seconds=10, what="the signatures on record")
        return shown

    def apply(self, *policies: Mapping[str, Any]) -> None:
        """Put a set of policies in force."""
        path = self.directory / "policies.yaml"
        path.write_text(yaml.safe_dump_all(policies, sort_keys=False))
        self.meshca("authz", "apply", str(path), "--reason", "test")

    def refusals(self) -> list[dict[str, Any]]:
        """Return the newest refusals in the audit log, the newest first."""
        entries: list[dict[str, Any]] = self.query(
            "audit", "query", "--kind", "refusal", "--limit", "1000"
        )["entries"]
        return entries
