"""What is known of connected proxies: the view that rotation's gates and administrators read.

The doors for proxies (`sds/`) fill it; it is declared here because rotation, below the doors, must
know who has acknowledged what before a root may change.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from authz.workload import Workload


@dataclass(frozen=True, slots=True)
class ResourceState:
    """One resource of one proxy: the version pushed last, the one acknowledged, the last NACK."""

    type: str
    name: str
    pushed_version: str
    acknowledged_version: str
    pushed_at: datetime | None
    acknowledged_at: datetime | None
    nack: str = ""
    nacked_at: datetime | None = None

    @property
    def is_behind(self) -> bool:
        """Whether the proxy does not have what was pushed."""
        return self.pushed_version != self.acknowledged_version


@dataclass(frozen=True, slots=True)
class ProxyState:
    """One connected proxy: the holder of an identity, over all of its streams.

    `workload` is whose policies it is sent; None while no stream has said so.
    """

    spiffe_id: str
    cluster: str
    namespace: str
    pod: str
    node_id: str
    peer: str
    connected_at: datetime
    proof_expires_at: datetime
    streams: int
    nacks: int
    unanswered: tuple[str, ...]
    resources: tuple[ResourceState, ...]
    holder: str = ""
    workload: Workload | None = None

    @property
    def is_behind(self) -> bool:
        """Whether any resource awaits its acknowledgement or was refused."""
        return any(resource.is_behind for resource in self.resources)


class Proxies(Protocol):
    """Who is connected and what they have."""

    def connected(self) -> Sequence[ProxyState]:
        """Return the proxies connected to this process now, ordered by identity."""
        ...
