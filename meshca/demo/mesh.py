"""The demo's mesh: a development server, three workloads, and a real Envoy beside each.

It is made the way a person makes one: with `meshca init`, `meshca dev token`, `meshca envoy
bootstrap` and `meshca serve`, each a process of its own. Only the ports are chosen here, and one
thing in the bootstraps, see `_handshake_often`.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from meshca.clock import Clock
from meshca.demo.app import EchoApp
from meshca.demo.envoy_admin import EnvoyAdmin
from meshca.demo.observation import DemoFailed, wait_until
from meshca.demo.ports import free_port
from meshca.demo.processes import Processes

TRUST_DOMAIN = "demo.mesh"
NAMESPACE = "shop"
WORKLOADS = ("frontend", "orders", "payments")
CALLED = ("orders", "payments")
START_SECONDS = 30.0
COMMAND_SECONDS = 60.0
REQUESTS_PER_CONNECTION = 50
ENVOY_OPTIONS = (
    *("--concurrency", "1", "--disable-hot-restart"),
    *("--file-flush-interval-msec", "100"),  # access logs can be read at once
)


def identity(workload: str) -> str:
    """Return the SPIFFE ID that a workload of the demo is to get."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{workload}"


@dataclass(slots=True)
class Workload:
    """One workload: where its proxy takes calls, makes calls, and tells of itself."""

    name: str
    directory: Path
    inbound: int
    admin: EnvoyAdmin
    outbound: dict[str, int] = field(default_factory=dict)

    @property
    def token_file(self) -> Path:
        """Return the file its proxy reads the service-account token from."""
        return self.directory / "token"


@dataclass(slots=True, kw_only=True)
class Mesh:
    """Everything that runs; `start` makes it, leaving the `with` block stops it."""

    directory: Path
    clock: Clock
    processes: Processes = field(init=False)
    workloads: dict[str, Workload] = field(default_factory=dict)
    server_port: int = 0
    metrics_port: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        self.directory.chmod(0o700)
        (self.directory / "logs").mkdir()
        self.processes = self._stack.enter_context(Processes(self.directory / "logs"))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def config(self) -> Path:
        """Return the server's configuration file."""
        return self.directory / "server" / "meshca.yaml"

    @property
    def roots(self) -> Path:
        """Return the file with the trust bundle."""
        return self.directory / "roots.pem"

    @property
    def frontend(self) -> Workload:
        """Return the workload that calls the others."""
        return self.workloads["frontend"]

    def meshca(self, *arguments: str) -> str:
        """Run a `meshca` command against the demo's server and return what it printed.

        Raises DemoFailed with what it said when it fails.
        """
        command = [*program(), *arguments]
        is_offline = arguments[0] in ("init", "envoy") or arguments[1].startswith("verify-")
        if "--config" not in arguments and not is_offline:
            command += ["--config", str(self.config)]
        done = subprocess.run(  # noqa: S603  # our own program, no shell
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode != 0:
            raise DemoFailed(f"meshca {' '.join(arguments)} failed:\n{done.stderr.strip()}")
        return done.stdout

    def query(self, *arguments: str) -> Any:
        """Run a `meshca` command that prints data, and return the data."""
        return json.loads(self.meshca(*arguments, "--output", "json"))

    def start(self) -> Iterator[str]:
        """Start everything, yielding what is being done next; `len(STAGES)` times."""
        yield "making a root, a configuration and a development cluster"
        self._init()
        yield "starting the server"
        self._serve()
        calls = {"frontend": CALLED}
        self.workloads = {name: self.new_workload(name, calls.get(name, ())) for name in WORKLOADS}
        for name in WORKLOADS:
            yield f"starting {name} and its proxy"
            self._add(name)
        for name in WORKLOADS:
            yield f"{name} gets its certificate"
            self._await_ready(self.workloads[name])

    def token(self, workload: str, *options: str) -> str:
        """Return a fresh token of a workload's service account."""
        return self.meshca(
            *("dev", "token", "--namespace", NAMESPACE, "--service-account", workload), *options
        ).strip()

    def start_proxy(self, workload: Workload, *options: str) -> None:
        """Write the bootstrap of a workload's proxy and start it."""
        path = workload.directory / "envoy.json"
        outbound = [
            f"--outbound={port}=127.0.0.1:{self.workloads[name].inbound}={identity(name)}"
            for name, port in workload.outbound.items()
        ]
        self.meshca(
            *("envoy", "bootstrap", "--server", f"localhost:{self.server_port}"),
            *("--token-file", str(workload.token_file), "--trust-bundle", str(self.roots)),
            *("--trust-domain", TRUST_DOMAIN, "--admin", workload.admin.url.rpartition(":")[2]),
            *("--label", f"app={workload.name}", "--node-id", workload.name),
            *("--write", str(path), *options, *outbound),
        )
        _handshake_often(path)
        self.processes.start(
            workload.name,
            [envoy(), "-c", str(path), *ENVOY_OPTIONS],
        )

    def new_workload(self, name: str, calls: Sequence[str] = ()) -> Workload:
        """Return a new workload's ports and directory; it has no token and no proxy yet."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        inbound, admin, *ports = (free_port() for _ in range(2 + len(calls)))
        view = self._stack.enter_context(EnvoyAdmin(admin))
        outbound = dict(zip(calls, ports, strict=True))
        return Workload(name, directory, inbound, view, outbound)

    def _init(self) -> None:
        self.meshca("init", str(self.config.parent), "--trust-domain", TRUST_DOMAIN)
        self.server_port, self.metrics_port = free_port(), free_port()
        config = yaml.safe_load(self.config.read_text())
        config["listen"] = {
            "mesh": f"127.0.0.1:{self.server_port}",
            "metrics": f"127.0.0.1:{self.metrics_port}",
        }
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    def _serve(self) -> None:
        self.processes.start("server", [*program(), "serve", "--config", str(self.config)])
        self._wait(self._server_is_ready, "the server is ready")
        self.roots.write_text(self.meshca("bundle", "show"))

    def _server_is_ready(self) -> bool:
        url = f"http://127.0.0.1:{self.metrics_port}/readyz"
        try:
            return httpx.get(url, timeout=5.0, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _add(self, name: str) -> None:
        workload = self.workloads[name]
        workload.token_file.write_text(self.token(name))
        options: tuple[str, ...] = ()
        if name in CALLED:
            app = self._stack.enter_context(EchoApp())
            options = (
                *("--inbound", f"127.0.0.1:{workload.inbound}"),
                *("--app", f"127.0.0.1:{app.port}"),
            )
        self.start_proxy(workload, *options)

    def _await_ready(self, workload: Workload) -> None:
        self._wait(workload.admin.is_ready, f"the proxy of {workload.name} has its certificate")

    def _wait(self, condition: Any, what: str) -> None:
        def holds() -> bool:
            self.processes.check()
            return bool(condition())

        wait_until(holds, within_seconds=START_SECONDS, what=what, clock=self.clock)


STAGES = 2 + 2 * len(WORKLOADS)
"""How many times `Mesh.start` yields."""


def program() -> list[str]:
    """Return the command that runs this very meshca."""
    return [sys.executable, "-c", "from meshca.cli import main; main()"]


def envoy() -> str:
    """Return the path of the envoy program; raises DemoFailed when there is none."""
    beside = Path(sys.executable).parent
    found = shutil.which("envoy", path=str(beside)) or shutil.which("envoy")
    if found is None:
        raise DemoFailed("there is no `envoy` program; `make demo` installs one")
    return found


def _handshake_often(path: Path) -> None:
    """Let each connection between proxies carry only a few requests.

    In real life connections live long and rotation happens under none of them; here every
    rotation is to be met by many handshakes.
    """
    config = json.loads(path.read_text())
    for cluster in config["static_resources"]["clusters"]:
        if not cluster["name"].startswith("outbound-"):
            continue
        for options in cluster["typed_extension_protocol_options"].values():
            limit = {"max_requests_per_connection": REQUESTS_PER_CONNECTION}
            options.setdefault("common_http_protocol_options", {}).update(limit)
    path.write_text(json.dumps(config, indent=2))
