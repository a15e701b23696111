"""What operators lay over the documents in force: a staged change, approvals, bypasses.

Pure values; who may lay what, and for how long, is decided in `authz/staging`.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import orjson

from authz.workload import Workload


class _Versioned(Protocol):
    @property
    def version(self) -> str:
        """Return the hash of what it means."""
        ...


Set = TypeVar("Set", bound=_Versioned)


@dataclass(frozen=True, slots=True)
class Bypass:
    """An emergency: requests to the destinations it selects pass whatever policy says.

    `expires` is in seconds since the epoch; at a time that is not known it does not hold.
    """

    name: str
    namespace: str
    selector: frozenset[tuple[str, str]]
    expires: float

    def holds_for(self, workload: Workload, time: float | None) -> bool:
        """Return whether requests to `workload` pass at `time`."""
        selected = workload.namespace == self.namespace and self.selector <= workload.labels
        return selected and time is not None and time < self.expires


@dataclass(frozen=True, slots=True)
class Overlay(Generic[Set]):
    """`candidate` is a whole set on trial: shadowed, and in force in the `canary` namespaces.

    `approvals` are the digests of the break-glass policies that a second person has approved.
    """

    candidate: Set | None = None
    canary: frozenset[str] = frozenset()
    approvals: frozenset[str] = frozenset()
    bypasses: tuple[Bypass, ...] = ()

    @property
    def version(self) -> str:
        """Return a hash of what is laid over."""
        bypasses = [(b.name, b.namespace, sorted(b.selector), b.expires) for b in self.bypasses]
        candidate = "" if self.candidate is None else self.candidate.version
        meaning = [candidate, sorted(self.canary), sorted(self.approvals), bypasses]
        return hashlib.sha256(orjson.dumps(meaning)).hexdigest()[:12]


NO_OVERLAY: Overlay[Any] = Overlay()
