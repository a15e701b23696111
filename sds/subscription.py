"""One stream's subscription: which names of one type a proxy wants, was sent, and has accepted.

The xDS rules (envoy.md section 4), pure: requests go in, due responses come out. Both variants of
the protocol share the names; they differ in how a request names them and how a version is said.

- A response is due when a wanted resource has a version other than the one last sent.
- Nonces: the last few are remembered, so that an answer to an older push still counts as an answer
  and anything else is stale and ignored.
- A NACK is recorded and never answered: Envoy keeps what it had and waits for something new.
- Names that resolve to nothing get no answer and do not disturb the others. At most
  MAXIMUM_NAMES names are followed; the rest is counted, not stored.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rotation.proxies import ResourceState
from sds.resources import Resource

MAXIMUM_NAMES: Final = 128
_REMEMBERED_NONCES: Final = 8

Resolve = Callable[[str], Resource | None]


@dataclass(slots=True)
class Wanted:
    """One wanted name and what the proxy has of it."""

    sent: str = ""
    sent_at: datetime | None = None
    accepted: str = ""
    accepted_at: datetime | None = None
    nack: str = ""
    nacked_at: datetime | None = None
    again: bool = True


@dataclass(frozen=True, slots=True)
class Push:
    """One response in flight: its nonce, what it carried, and when it left."""

    nonce: str
    versions: dict[str, str]
    at: datetime
    monotonic: float


@dataclass(slots=True)
class Subscription:
    """The names of one resource type on one stream."""

    type_url: str
    wanted: dict[str, Wanted] = field(default_factory=dict)
    wildcard: bool = False
    refused_names: int = 0
    last_nonce: str = ""
    nacks: int = 0
    _in_flight: dict[str, Push] = field(default_factory=dict)
    _counter: int = 0

    def want(self, names: Iterable[str], known: dict[str, str] | None = None) -> None:
        """Follow `names` from now on; `known` tells versions that the proxy already has."""
        for name in names:
            if name not in self.wanted and len(self.wanted) >= MAXIMUM_NAMES:
                self.refused_names += 1
                continue
            entry = self.wanted.setdefault(name, Wanted())
            entry.again = True
            version = (known or {}).get(name)
            if version:
                entry.sent = entry.accepted = version
                entry.again = False

    def forget(self, names: Iterable[str]) -> None:
        """Stop following `names`."""
        for name in names:
            self.wanted.pop(name, None)

    def replace(self, names: Sequence[str]) -> bool:
        """Follow exactly `names` (state of the world); return whether a name was added."""
        keep = set(names)
        self.forget([name for name in self.wanted if name not in keep])
        added = [name for name in names if name not in self.wanted]
        self.want(added)
        return bool(added)

    def again(self) -> None:
        """Send everything once more, whatever was sent before."""
        for entry in self.wanted.values():
            entry.again = True

    def due(self, resolve: Resolve) -> list[Resource]:
        """Return the resources whose current version the proxy was not sent."""
        found: list[Resource] = []
        for name, entry in self.wanted.items():
            resource = resolve(name)
            if resource is not None and (entry.again or resource.version != entry.sent):
                found.append(resource)
        return found

    def pushed(self, resources: Sequence[Resource], at: datetime, monotonic: float) -> str:
        """Note that `resources` leave now; return the nonce they leave under."""
        self._counter += 1
        nonce = f"{self._counter:x}"
        versions = {resource.name: resource.version for resource in resources}
        for name, version in versions.items():
            entry = self.wanted[name]
            entry.sent, entry.sent_at, entry.again = version, at, False
        self._in_flight[nonce] = Push(nonce, versions, at, monotonic)
        if len(self._in_flight) > _REMEMBERED_NONCES:
            del self._in_flight[next(iter(self._in_flight))]
        self.last_nonce = nonce
        return nonce

    def acknowledged(self, nonce: str, at: datetime) -> Push | None:
        """Note an ACK; return the push it answers, or None when it answers none (stale)."""
        push = self._in_flight.pop(nonce, None)
        if push is not None:
            for name, version in push.versions.items():
                if (entry := self.wanted.get(name)) is not None:
                    entry.accepted, entry.accepted_at = version, at
                    entry.nack, entry.nacked_at = "", None
        return push

    def refused(self, nonce: str, text: str, at: datetime) -> Push | None:
        """Note a NACK with its text; return the push it answers, or None when it answers none."""
        push = self._in_flight.pop(nonce, None)
        if push is not None:
            self.nacks += 1
            for name in push.versions:
                if (entry := self.wanted.get(name)) is not None:
                    entry.nack, entry.nacked_at = text, at
        return push

    def states(self) -> list[ResourceState]:
        """Return what the proxy has, for the ledger."""
        return [
            ResourceState(
                type=self.type_url.rpartition(".")[2],
                name=name,
                pushed_version=entry.sent,
                acknowledged_version=entry.accepted,
                pushed_at=entry.sent_at,
                acknowledged_at=entry.accepted_at,
                nack=entry.nack,
                nacked_at=entry.nacked_at,
            )
            for name, entry in self.wanted.items()
            if entry.sent
        ]

    def unanswered(self) -> list[str]:
        """Return the wanted names that were never answered."""
        return [name for name, entry in self.wanted.items() if not entry.sent]
