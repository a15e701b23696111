"""Who is known to have a root, and who is not: measured from acknowledgements, never assumed.

A workload has the roots of a bundle once it has acknowledged the version that holds them, under
every name by which it follows the bundle. It is remembered for as long as the root is announced,
so that a proxy that has left may stay away. Pure, but for that memory.

Missing are, for one root:
- connected proxies that have not acknowledged it, with their last NACK;
- connected proxies that follow no bundle: what they trust is not known here;
- workloads that are not connected but hold a live certificate from before the root was announced:
  they may come back with a bundle that lacks it. They return, expire, or are waived by name.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rotation.proxies import ProxyState

Workload = tuple[str, str]
"""A SPIFFE ID and a pod's name."""

BundleVersion = Callable[[str], str | None]
"""Returns the version of the bundle under a resource name now; None if the name is another's."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A workload that holds a live certificate, and when the last of them ends."""

    spiffe_id: str
    pod: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Missing:
    """A workload that a root waits for: why, and since when (connected) or until when (absent)."""

    spiffe_id: str
    pod: str
    is_connected: bool
    why: str
    since: datetime | None = None
    until: datetime | None = None
    nack: str = ""


@dataclass(slots=True)
class Propagation:
    """Which workloads have which roots, as far as this process has seen."""

    bundle_version: BundleVersion
    _confirmed: dict[str, set[Workload]] = field(default_factory=dict)

    def observe(self, announced: Iterable[str], proxies: Sequence[ProxyState]) -> None:
        """Note who has the current bundle, and so the `announced` roots; forget other roots."""
        have = {_name(proxy) for proxy in proxies if not _lacks(proxy, self.bundle_version)}
        names = set(announced)
        for root in names:
            self._confirmed.setdefault(root, set()).update(have)
        for gone in self._confirmed.keys() - names:
            del self._confirmed[gone]

    def missing(
        self, root: str, proxies: Sequence[ProxyState], holders: Iterable[Holder]
    ) -> list[Missing]:
        """Return who is not known to have `root`; `holders` had certificates before it came."""
        confirmed = self._confirmed.get(root, set())
        connected = {_name(proxy) for proxy in proxies}
        found = [
            Missing(
                proxy.spiffe_id, proxy.pod, True, why, proxy.connected_at, nack=_last_nack(proxy)
            )
            for proxy in proxies
            if (why := _lacks(proxy, self.bundle_version)) and _name(proxy) not in confirmed
        ]
        for holder in holders:
            name = (holder.spiffe_id, holder.pod)
            if name not in confirmed and name not in connected:
                why = "not connected, and holds a certificate from before"
                found.append(Missing(holder.spiffe_id, holder.pod, False, why, until=holder.until))
        return found


def _name(proxy: ProxyState) -> Workload:
    return proxy.spiffe_id, proxy.pod


def _lacks(proxy: ProxyState, bundle_version: BundleVersion) -> str:
    """Return why `proxy` is not known to have the current bundle; empty when it has it."""
    follows = False
    for resource in proxy.resources:
        current = bundle_version(resource.name) if resource.type == "Secret" else None
        if current is None:
            continue
        follows = True
        if resource.acknowledged_version != current:
            return "refused the bundle" if resource.nack else "has not acknowledged the bundle"
    return "" if follows else "follows no trust bundle"


def _last_nack(proxy: ProxyState) -> str:
    nacks = [(r.nacked_at, r.nack) for r in proxy.resources if r.nacked_at is not None]
    return max(nacks)[1] if nacks else ""
