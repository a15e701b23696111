"""A destination workload, and what selects it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

GATEWAY_LABEL = "gateway.networking.k8s.io/gateway-name"
"""The label by which a workload says which Gateway it implements."""


@dataclass(frozen=True, slots=True, init=False)
class Workload:
    """A destination: the namespace and labels that decide which policies select it."""

    namespace: str
    labels: frozenset[tuple[str, str]]
    _hash: int = field(repr=False, compare=False)

    def __init__(self, namespace: str, labels: Mapping[str, str] | None = None) -> None:
        pairs = frozenset((labels or {}).items())
        object.__setattr__(self, "namespace", namespace)
        object.__setattr__(self, "labels", pairs)
        object.__setattr__(self, "_hash", hash((namespace, pairs)))

    def __hash__(self) -> int:
        return self._hash

    def is_selected(
        self, selector: frozenset[tuple[str, str]], gateways: frozenset[str] = frozenset()
    ) -> bool:
        """Return whether it has all labels of `selector` and, if any are named, is a gateway."""
        if not selector <= self.labels:
            return False
        return not gateways or any((GATEWAY_LABEL, name) in self.labels for name in gateways)
