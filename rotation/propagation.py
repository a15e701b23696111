"""Who has a root, or a list, and who is not known to: measured from acknowledgements.

A workload has the roots of a bundle once it has acknowledged the version that holds them, under
every name by which it follows the bundle. That is remembered, by every replica in the database
(rotation/replicas.py), for as long as the root is announced: so a proxy that has left may stay
away. Pure, but for what was not written yet.

Missing are, for one root:
- connected proxies that have not acknowledged it, with their last NACK;
- connected proxies that follow no bundle: what they trust is not known here;
- workloads that are not connected but hold a live certificate: they may come back with a bundle
  that lacks it. They return, expire, or are waived by name.

Whoever gets the roots with each certificate (Istio's CreateCertificate) has them when it was told.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from rotation.proxies import ProxyState

_NO_BUNDLE: Final = "follows no trust bundle"

Workload = tuple[str, str]
"""A SPIFFE ID and a pod's name: how a workload is waived."""

BundleVersion = Callable[[str], Set[str]]
"""Returns the versions of the bundle under a resource name now; none if the name is another's."""


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
    """A workload that a root waits for: why, and since when (connected) or until when (absent).

    `replica` is the one it is connected to; `follows` whether it follows a bundle of ours. Without
    a `spiffe_id` it stands for others, as `why` says.
    """

    spiffe_id: str
    pod: str
    is_connected: bool
    why: str
    since: datetime | None = None
    until: datetime | None = None
    nack: str = ""
    holder: str = ""
    replica: str = ""
    follows: bool = True


@dataclass(slots=True)
class Propagation:
    """Which workloads have which roots, as far as this process has seen."""

    bundle_version: BundleVersion
    _confirmed: dict[str, set[str]] = field(default_factory=dict)
    _unwritten: dict[str, set[str]] = field(default_factory=dict)

    def observe(self, announced: Iterable[str], proxies: Sequence[ProxyState]) -> None:
        """Note who has the current bundle, and so the `announced` roots; forget other roots."""
        have = {proxy.holder for proxy in proxies if not _lacks(proxy, self.bundle_version)}
        names = set(announced)
        for root in names:
            confirmed = self._confirmed.setdefault(root, set())
            self._unwritten.setdefault(root, set()).update(have - confirmed)
            confirmed.update(have)
        for gone in self._confirmed.keys() - names:
            del self._confirmed[gone]
            del self._unwritten[gone]

    def told(self, holder: str) -> None:
        """Note that `holder` was just given every root of the bundle, with a certificate."""
        for holders in self._unwritten.values():
            holders.add(holder)

    def unwritten(self) -> dict[str, frozenset[str]]:
        """Return, by root, whom the database does not know to have it; see `written`."""
        return {root: frozenset(holders) for root, holders in self._unwritten.items() if holders}

    def written(self, root: str, holders: Set[str]) -> None:
        """Note that the database knows `holders` to have `root`."""
        if root in self._unwritten:
            self._unwritten[root] -= holders

    def missing(self, root: str, proxies: Sequence[ProxyState], replica: str) -> list[Missing]:
        """Return which `proxies`, connected to `replica`, are not known to have `root`."""
        confirmed = self._confirmed.get(root, set())
        return [
            Missing(
                proxy.spiffe_id,
                proxy.pod,
                True,
                why,
                proxy.connected_at,
                nack=_last_nack(proxy),
                holder=proxy.holder,
                replica=replica,
                follows=why != _NO_BUNDLE,
            )
            for proxy in proxies
            if (why := _lacks(proxy, self.bundle_version)) and proxy.holder not in confirmed
        ]


def absent(
    holders: Iterable[Holder], *, confirmed: Set[str], present: Set[str]
) -> Iterator[Missing]:
    """Yield those of `holders` that are neither known to have a root nor `present`."""
    for each in holders:
        if each.holder not in confirmed and each.holder not in present:
            why = "not connected, and holds a live certificate"
            yield Missing(
                each.spiffe_id, each.pod, False, why, until=each.until, holder=each.holder
            )


def _lacks(proxy: ProxyState, bundle_version: BundleVersion) -> str:
    """Return why `proxy` is not known to have the current bundle; empty when it has it."""
    follows = False
    for resource in proxy.resources:
        current = bundle_version(resource.name) if resource.type == "Secret" else frozenset()
        if not current:
            continue
        follows = True
        if resource.acknowledged_version not in current:
            return "refused the bundle" if resource.nack else "has not acknowledged the bundle"
    return "" if follows else _NO_BUNDLE


def _last_nack(proxy: ProxyState) -> str:
    nacks = [(r.nacked_at, r.nack) for r in proxy.resources if r.nacked_at is not None]
    return max(nacks)[1] if nacks else ""
