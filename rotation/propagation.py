"""Who is known to have a root, and who is not: measured from acknowledgements, never assumed.

A workload has the roots of a bundle once it has acknowledged the version that holds them, under
every name by which it follows the bundle. It is remembered for as long as the root is announced,
so that a proxy that has left may stay away. Pure, but for that memory.

Missing are, for one root:
- connected proxies that have not acknowledged it, with their last NACK;
- connected proxies that follow no bundle: what they trust is not known here;
- workloads that are not connected but hold a live certificate: they may come back with a bundle
  that lacks it. They return, expire, or are waived by name.

Whoever gets the roots with each certificate (Istio's CreateCertificate) has them when it was told.
What is remembered is lost with the process, and earned again: never assumed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rotation.proxies import ProxyState

Workload = tuple[str, str]
"""A SPIFFE ID and a pod's name: how a workload is waived."""

BundleVersion = Callable[[str], str | None]
"""Returns the version of the bundle under a resource name now; None if the name is another's."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A workload that holds a live certificate, and when the last of them ends.

    `holder` names the one instance, as `identity.caller.Caller.holder` does.
    """

    holder: str
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
    _confirmed: dict[str, set[str]] = field(default_factory=dict)
    _told: dict[str, set[str]] = field(default_factory=dict)

    def observe(self, announced: Iterable[str], proxies: Sequence[ProxyState]) -> None:
        """Note who has the current bundle, and so the `announced` roots; forget other roots."""
        have = {proxy.holder for proxy in proxies if not _lacks(proxy, self.bundle_version)}
        names = set(announced)
        for root in names:
            self._confirmed.setdefault(root, set()).update(have)
            self._told.setdefault(root, set())
        for gone in self._confirmed.keys() - names:
            del self._confirmed[gone]
            del self._told[gone]

    def told(self, holder: str) -> None:
        """Note that `holder` was just given every root of the bundle, with a certificate."""
        for told in self._told.values():
            told.add(holder)

    def missing(
        self, root: str, proxies: Sequence[ProxyState], holders: Iterable[Holder]
    ) -> list[Missing]:
        """Return who is not known to have `root`; `holders` have live certificates."""
        confirmed = self._confirmed.get(root, set())
        known = confirmed | self._told.get(root, set())
        connected = {proxy.holder for proxy in proxies}
        found = [
            Missing(
                proxy.spiffe_id, proxy.pod, True, why, proxy.connected_at, nack=_last_nack(proxy)
            )
            for proxy in proxies
            if (why := _lacks(proxy, self.bundle_version)) and proxy.holder not in confirmed
        ]
        for each in holders:
            if each.holder not in known and each.holder not in connected:
                why = "not connected, and holds a live certificate"
                found.append(Missing(each.spiffe_id, each.pod, False, why, until=each.until))
        return found


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
