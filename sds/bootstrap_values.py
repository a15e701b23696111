"""What an Envoy bootstrap says, as validated values: the input of `sds/bootstrap.py`."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Final

from meshca.spiffe_id import SpiffeId

CONNECTION_LIFETIME: Final = timedelta(minutes=10)
VALIDATORS: Final = ("default", "spiffe")


def is_ip_address(host: str) -> bool:
    """Return whether `host` is an IPv4 or IPv6 address, without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A host, by DNS name or IP address (without brackets), and a TCP port."""

    host: str
    port: int

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address, so that there is nothing to resolve."""
        return is_ip_address(self.host)


@dataclass(frozen=True, slots=True)
class Inbound:
    """A listener that takes mutual TLS from peers and hands plain bytes to the app."""

    listen: Endpoint
    app: Endpoint


@dataclass(frozen=True, slots=True)
class Outbound:
    """A plain listener on 127.0.0.1:`port` that calls `to` and accepts only `peer` there."""

    port: int
    to: Endpoint
    peer: SpiffeId


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Everything an Envoy bootstrap says; every path is absolute, on the machine Envoy runs on.

    `path` is where Envoy reads the bootstrap from; its two companion files stand beside it.
    Node fields (`node_id`, `labels`) are hints: the server decides from the token alone.
    Callers may be of `trust_domain` or of one of `federated`, which are other trust domains.
    `validator` is the flavour of pushed validation contexts (sds/contexts.py); None leaves it to
    the server. `permissive` takes plaintext, too, where PeerAuthentication permits it.
    `trusted_hops` is how many proxies in front of callers are believed about whom they speak for.
    With `decision_log` the mesh CA is told of each decision.
    """

    path: Path
    server: Endpoint
    server_name: str
    token_file: Path
    trust_bundle: Path
    trust_domain: str
    federated: tuple[str, ...] = ()
    inbound: Inbound | None = None
    inbound_tcp: tuple[Inbound, ...] = ()
    outbound: tuple[Outbound, ...] = ()
    admin_port: int | None = None
    connection_lifetime: timedelta = CONNECTION_LIFETIME
    validator: str | None = None
    permissive: bool = False
    trusted_hops: int = 0
    decision_log: bool = True
    node_id: str = "envoy"
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def token_secret_path(self) -> Path:
        """Return where Envoy reads the file that names the token file."""
        return self.path.with_name(f"{self.path.stem}-token.json")

    @property
    def bundle_secret_path(self) -> Path:
        """Return where Envoy reads the file that names the trust bundle's file."""
        return self.path.with_name(f"{self.path.stem}-trust-bundle.json")
