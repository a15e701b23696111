"""Workloads of the end-to-end tests: a directory with a token, a bootstrap, and a real Envoy."""

import json
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from meshca.demo.ports import free_port
from tests.end_to_end.server import RunningServer, spiffe_id
from tests.envoy import RunningEnvoy

SUBSCRIPTIONS = 4
"""Streams of a proxy with an inbound port: certificate, roots, the revoked, policy."""


class Proxy(RunningEnvoy):
    """The Envoy of the workload `name`: it takes calls at `inbound`, makes them at `outbound`."""

    def __init__(
        self,
        server: RunningServer,
        name: str,
        *,
        app_port: int | None = None,
        calls: Sequence["Proxy"] = (),
        token: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        directory = server.directory / name
        directory.mkdir(exist_ok=True)
        super().__init__(directory / "envoy.json", admin_port=free_port())
        self.server = server
        self.name = name
        self.token_file = directory / "token"
        self.inbound = free_port()
        self.outbound = {called.name: free_port() for called in calls}
        self.replace_token(server.token(name) if token is None else token)
        self.write_bootstrap(app_port, calls, options)

    @property
    def spiffe_id(self) -> str:
        """Return its identity."""
        return spiffe_id(self.name, self.server.trust_domain)

    def write_bootstrap(
        self, app_port: int | None, calls: Sequence["Proxy"], options: Sequence[str]
    ) -> None:
        """Write the bootstrap through the command line."""
        given = [
            *("--server", f"localhost:{self.server.port}", "--admin", self.url.rpartition(":")[2]),
            *("--token-file", str(self.token_file), "--trust-bundle", str(self.server.roots)),
            *("--label", f"app={self.name}", "--node-id", self.name, "--write", str(self.path)),
            *options,
        ]
        if app_port is not None:
            given += ["--inbound", f"127.0.0.1:{self.inbound}", "--app", f"127.0.0.1:{app_port}"]
        for called in calls:
            port = self.outbound[called.name]
            given += ["--outbound", f"{port}=127.0.0.1:{called.inbound}={called.spiffe_id}"]
        self.server.meshca("envoy", "bootstrap", *given)

    def replace_token(self, token: str) -> None:
        """Replace the token in one step, as the kubelet does."""
        fresh = Path(f"{self.token_file}.new")
        fresh.write_text(token)
        fresh.rename(self.token_file)

    def handshake_every(self, requests: int) -> None:
        """Let a connection to another proxy carry only so many requests; before the start."""
        config = json.loads(self.path.read_text())
        for cluster in config["static_resources"]["clusters"]:
            if cluster["name"].startswith("outbound-"):
                (options,) = cluster["typed_extension_protocol_options"].values()
                options["common_http_protocol_options"]["max_requests_per_connection"] = requests
        self.path.write_text(json.dumps(config))

    def trust_only(self, roots: Path) -> None:
        """Let it know those whom it calls by the roots in a file, for good; before the start."""
        config = json.loads(self.path.read_text())
        for cluster in config["static_resources"]["clusters"]:
            if cluster["name"].startswith("outbound-"):
                tls = cluster["transport_socket"]["typed_config"]["common_tls_context"]
                context = tls.pop("combined_validation_context")["default_validation_context"]
                tls["validation_context"] = {**context, "trusted_ca": {"filename": str(roots)}}
        self.path.write_text(json.dumps(config))

    def chain(self) -> list[x509.Certificate]:
        """Return what it shows of itself: its certificate, and what stands above."""
        secrets = [each["secret"] for each in self.config_dump()]
        (own,) = [secret["tls_certificate"] for secret in secrets if "tls_certificate" in secret]
        return x509.load_pem_x509_certificates(b64decode(own["certificate_chain"]["inline_bytes"]))

    def handshakes(self) -> int:
        """Return how many TLS handshakes its outbound connections have made."""
        return sum(self.stats("cluster.outbound-.*ssl.handshake$").values())

    def handshake_failures(self) -> dict[str, int]:
        """Return what went wrong in TLS with other proxies, either way: counters above zero."""
        faults = r"(ssl\.connection_error|ssl\.fail_verify_\w+|upstream_cx_connect_fail)"
        counted = self.stats(rf"^(listener\.|cluster\.outbound-).*{faults}$")
        return {name: count for name, count in counted.items() if count}
