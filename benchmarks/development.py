"""A development server's directory, made by `meshca init`, and what its workloads hold."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from identity.development import UnsafeDevelopmentCluster
from meshca.clock import SystemClock
from meshca.database import open_engine
from meshca.demo.ports import free_port
from meshca.metrics import Metrics
from meshca.schema import migrate
from meshca.settings import Settings, load
from meshca.wiring import Service, build

TRUST_DOMAIN = "example.org"
NAMESPACE = "bench"
MESHCA = Path(sys.executable).with_name("meshca")


class Development:
    """A directory with a configuration, a development root and a cluster that signs tokens."""

    def __init__(self, directory: Path, **lifetimes: str) -> None:
        self.directory = directory / "server"
        self.config = self.directory / "meshca.yaml"
        self.roots = self.directory / "pki" / "root.pem"
        self.port, self.metrics_port = free_port(), free_port()
        command = [str(MESHCA), "init", str(self.directory), "--trust-domain", TRUST_DOMAIN]
        subprocess.run(command, check=True, capture_output=True)
        self._edit(lifetimes)
        self.cluster = UnsafeDevelopmentCluster.load(self.directory / "cluster")

    def _edit(self, lifetimes: dict[str, str]) -> None:
        config: dict[str, Any] = yaml.safe_load(self.config.read_text())
        config["listen"] = {
            "mesh": f"127.0.0.1:{self.port}",
            "metrics": f"127.0.0.1:{self.metrics_port}",
        }
        config["lifetimes"].update(lifetimes)
        self.config.write_text(yaml.safe_dump(config, sort_keys=False))

    @property
    def settings(self) -> Settings:
        """Return the configuration, read as the server reads it."""
        return load(self.config, {})

    def token(self, account: str, pod: str | None = None) -> str:
        """Return a new token of `account` for one of its pods, good for an hour."""
        return self.cluster.token(
            namespace=NAMESPACE,
            service_account=account,
            audiences=["meshca"],
            lifetime=timedelta(hours=1),
            now=SystemClock().now(),
            pod=pod or f"{account}-0",
        )


@contextmanager
def temporary(**lifetimes: str) -> Iterator[Development]:
    """Make a development server's directory on the disk, for the duration."""
    with tempfile.TemporaryDirectory(prefix="meshca-bench-") as directory:
        yield Development(Path(directory), **lifetimes)


def built(settings: Settings) -> Service:
    """Build what `meshca serve` builds, on a database of the current schema; nothing runs."""
    engine = open_engine(settings.database_url)
    migrate(engine)
    return build(settings, clock=SystemClock(), metrics=Metrics(), engine=engine)


def spiffe_id(account: str) -> str:
    """Return the SPIFFE ID of a service account of the development cluster."""
    return f"spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{account}"


def certificate_request() -> bytes:
    """Return a PEM CSR of a new P-256 key with an empty subject, as istio-agent makes them."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
