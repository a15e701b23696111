"""How an identity could reach a workload through others: the paths, the shortest first.

A hop is a request that policy allows now; what it reaches is taken to call on with its own
identity. That is the worst case: whoever controls a workload can make every call that is allowed
to it. No workload is passed twice.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from authz.analysis.destinations import Destination
from authz.analysis.dimensions import Kind
from authz.analysis.regions import Region
from authz.analysis.sides import Compared, Comparison, Within
from authz.analysis.witness import Witness, witness_of
from authz.policy import PolicySet
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId

MAXIMUM_HOPS = 8
MAXIMUM_PATHS = 10
MAXIMUM_EXPANDED = 20_000
"""Paths that are looked at before the search gives up, and says so."""


@dataclass(frozen=True, slots=True)
class Service:
    """A workload, and the identity it calls others with; None where that is not known."""

    workload: Workload
    identity: SpiffeId | None


@dataclass(frozen=True, slots=True)
class Hop:
    """One call: `rule` allows it, empty where the default does; `witness` is such a request."""

    source: SpiffeId
    destination: Workload
    rule: str
    witness: Witness


@dataclass(slots=True)
class Reach:
    """The paths found; `beyond` is what was not looked at, `defects` where the engine disagrees."""

    paths: list[tuple[Hop, ...]] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)


def reach(
    policies: PolicySet,
    source: SpiffeId,
    destination: Workload,
    services: Sequence[Service],
    *,
    now: float,
    hops: int = MAXIMUM_HOPS,
) -> Reach:
    """Return the ways from `source` to `destination` in at most `hops` calls of `services`."""
    search = _Search.of(policies, source, destination, services, now)
    search.run(min(hops, MAXIMUM_HOPS))
    return search.found


@dataclass(slots=True)
class _Search:
    policies: PolicySet
    source: SpiffeId
    destination: Workload
    services: Sequence[Service]
    comparison: Comparison
    found: Reach = field(default_factory=Reach)
    known: dict[tuple[SpiffeId, Workload], Hop | None] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        policies: PolicySet,
        source: SpiffeId,
        destination: Workload,
        services: Iterable[Service],
        now: float,
    ) -> "_Search":
        """Prepare a search: tell apart every identity that may call."""
        through = [s for s in services if s.identity is not None and s.workload != destination]
        callers = {s.identity for s in through if s.identity is not None} | {source}
        within = Within(
            now_only=True, callers=frozenset(str(i).removeprefix("spiffe://") for i in callers)
        )
        comparison = Comparison(None, policies, now, within)
        return cls(policies, source, destination, through, comparison)

    def run(self, hops: int) -> None:
        """Look breadth first, so that shorter paths come first."""
        waiting: deque[tuple[SpiffeId, tuple[Hop, ...]]] = deque([(self.source, ())])
        expanded = 0
        while waiting and len(self.found.paths) < MAXIMUM_PATHS:
            caller, path = waiting.popleft()
            expanded += 1
            if expanded > MAXIMUM_EXPANDED:
                self.found.beyond.append(f"more than {MAXIMUM_EXPANDED} paths were looked at")
                return
            last = self._hop(caller, self.destination)
            if last is not None:
                self.found.paths.append((*path, last))
            if len(path) + 1 < hops:
                waiting.extend(self._further(caller, path))
        if waiting:
            self.found.beyond.append(f"only the {MAXIMUM_PATHS} shortest paths are shown")

    def _further(
        self, caller: SpiffeId, path: tuple[Hop, ...]
    ) -> Iterable[tuple[SpiffeId, tuple[Hop, ...]]]:
        passed = {hop.destination for hop in path}
        callers = {hop.source for hop in path} | {caller}
        for service in self.services:
            identity = service.identity
            if identity is None or identity in callers or service.workload in passed:
                continue
            hop = self._hop(caller, service.workload)
            if hop is not None:
                yield identity, (*path, hop)

    def _hop(self, caller: SpiffeId, workload: Workload) -> Hop | None:
        key = caller, workload
        if key not in self.known:
            kind = Destination(workload.namespace, workload.labels, workload)
            compared = self.comparison.of(kind)
            self.known[key] = self._hop_in(compared, caller, workload)
            for text in compared.beyond:
                said = f"{workload.namespace}: {text}"
                self.found.beyond += [said] if said not in self.found.beyond else []
        return self.known[key]

    def _hop_in(self, compared: Compared, caller: SpiffeId, workload: Workload) -> Hop | None:
        space = compared.space
        if space is None:
            return None
        source = space.index(Kind.SOURCE)
        point = space.dimensions[source].where(lambda each: each == caller)
        for region in compared.regions:
            if region.allowed and region.box[source] & point:
                box = (*region.box[:source], point, *region.box[source + 1 :])
                witness = witness_of(space, box, workload)
                decision = witness.decide(self.policies)
                if not decision.allowed:
                    self.found.defects.append(f"{caller} to {workload.namespace}: denied")
                rule = "" if decision.rule is None else decision.rule.name
                return Hop(caller, workload, rule, witness)
        if any(_is_beyond(region, source, point) for region in compared.regions):
            self.found.beyond.append(f"{caller} to {workload.namespace}")
        return None


def _is_beyond(region: Region, source: int, point: int) -> bool:
    return region.allowed is None and bool(region.box[source] & point)
