"""Kinds of destinations: workloads that selectors can tell apart, a witness workload for each.

Within a namespace two workloads are alike when the same selectors select both. A kind is the union
of the labels of some selectors, as far as it is one: no label has two values. Namespaces that
nothing names are one kind.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from authz.analysis.bounds import MAXIMUM_DESTINATIONS, TooLarge
from authz.peer_authentication import PeerAuthentication
from authz.policy import Policy, PolicySet
from authz.workload import GATEWAY_LABEL, Workload

Labels = frozenset[tuple[str, str]]
NO_LABELS: Labels = frozenset()


@dataclass(frozen=True, slots=True)
class Destination:
    """One kind; `namespace` is empty for all those that nothing names."""

    namespace: str
    labels: Labels
    workload: Workload


@dataclass(slots=True)
class Selectors:
    """What selects workloads, by namespace; those under one of `roots` select in all of them."""

    roots: frozenset[str]
    by_namespace: dict[str, set[Labels]] = field(default_factory=lambda: defaultdict(set))

    def add(self, namespace: str, labels: Labels = NO_LABELS) -> None:
        """Note that `labels` select in `namespace`."""
        self.by_namespace[namespace].add(labels)

    def of(self, namespace: str) -> set[Labels]:
        """Return what selects in `namespace`."""
        return {
            labels
            for name in (namespace, *self.roots)
            for labels in self.by_namespace.get(name, ())
        }


def selectors_of(*sets: PolicySet) -> Selectors:
    """Return everything that selects workloads in `sets`."""
    selectors = Selectors(frozenset(policies.root_namespace for policies in sets))
    for policies in _with_candidates(sets):
        for policy in policies.policies:
            add_policy(selectors, policy)
        for document in policies.peer_authentications:
            add_peer_authentication(selectors, document)
        for bypass in policies.overlay.bypasses:
            selectors.add(bypass.namespace, bypass.selector)
        for namespace in policies.overlay.canary:
            selectors.add(namespace)
    return selectors


def _with_candidates(sets: Iterable[PolicySet]) -> Iterator[PolicySet]:
    for policies in sets:
        yield policies
        if policies.overlay.candidate is not None:
            yield policies.overlay.candidate


def add_policy(selectors: Selectors, policy: Policy) -> None:
    """Note what `policy` selects, and the namespaces that its stage names."""
    for labels in _labels(policy):
        selectors.add(policy.namespace, labels)
    for namespace in policy.canary:
        selectors.add(namespace)


def add_peer_authentication(selectors: Selectors, document: PeerAuthentication) -> None:
    """Note what `document` selects."""
    selectors.add(document.namespace, document.selector)


def _labels(policy: Policy) -> Iterator[Labels]:
    if not policy.gateways:
        yield policy.selector
    for name in policy.gateways:
        yield policy.selector | {(GATEWAY_LABEL, name)}


def destinations(every: Selectors, wanted: Selectors) -> Iterator[Destination]:
    """Yield each kind that `every` tells apart and something in `wanted` selects.

    Raises TooLarge.
    """
    named = sorted(every.by_namespace.keys() | wanted.by_namespace.keys())
    count = 0
    for namespace in ["", *named]:
        within = namespace or _unnamed(named)
        bases = wanted.of(within)
        for labels in sorted(_kinds(bases, every.of(within)), key=_by_size):
            count += 1
            if count > MAXIMUM_DESTINATIONS:
                raise TooLarge(f"more than {MAXIMUM_DESTINATIONS} kinds of destinations")
            yield Destination(namespace, labels, Workload(within, dict(labels)))


def _by_size(labels: Labels) -> tuple[int, list[tuple[str, str]]]:
    return len(labels), sorted(labels)


def _unnamed(named: Iterable[str]) -> str:
    taken = set(named)
    return next(name for i in range(len(taken) + 1) if (name := f"other-{i}") not in taken)


def _kinds(bases: Iterable[Labels], selectors: set[Labels]) -> set[Labels]:
    kinds = {labels for labels in bases if _is_possible(labels)}
    waiting = list(kinds)
    while waiting:
        labels = waiting.pop()
        for selector in selectors:
            union = labels | selector
            if union not in kinds and _is_possible(union):
                kinds.add(union)
                waiting.append(union)
                if len(kinds) > MAXIMUM_DESTINATIONS:
                    raise TooLarge(f"more than {MAXIMUM_DESTINATIONS} kinds of destinations")
    return kinds


def _is_possible(labels: Labels) -> bool:
    return len({key for key, _ in labels}) == len(labels)


def in_words(chosen: Iterable[Destination], every: Iterable[Destination]) -> list[str]:
    """Return `chosen` in few words; `every` are all kinds that were looked at."""
    groups: dict[str, set[Labels]] = defaultdict(set)
    known: dict[str, set[Labels]] = defaultdict(set)
    for destination in chosen:
        groups[destination.namespace].add(destination.labels)
    for destination in every:
        known[destination.namespace].add(destination.labels)
    return [
        text
        for namespace, labels in groups.items()
        for text in _namespace_in_words(namespace, labels, known[namespace])
    ]


def _namespace_in_words(namespace: str, chosen: set[Labels], known: set[Labels]) -> Iterator[str]:
    where = namespace or "every other namespace"
    left = sorted(chosen, key=_by_size)
    while left:
        least = left.pop(0)
        above = {labels for labels in known if least <= labels}
        said = ",".join(f"{key}={value}" for key, value in sorted(least))
        if above <= chosen:
            left = [labels for labels in left if labels not in above]
            yield f"{where}/{said or '*'}"
        else:
            yield f"{where}/{said or '*'} (no other selected label)"
