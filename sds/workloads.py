"""Which workload a calling proxy stands before: the one by which its policy was chosen.

Calls that carry decisions (ext_authz, access logs) come on connections of their own, perhaps to
another replica than the stream by which the proxy was sent its filters. The namespace is always
that of the caller's proof. Labels, the first that there are:

    1  those of the pod, where pods are watched
    2  those of the proxy's stream that is open here
    3  those that the call's metadata repeats: the server wrote them into the filter that calls
    4  those of its last stream here

Labels only ever select which policies a proxy enforces on itself (docs/threat-model.md).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cachetools import LRUCache

from authz.workload import Workload
from identity.caller import Caller
from sds.labels import LABELS_KEY, LONGEST, read_labels
from sds.ledger import Ledger

MAXIMUM_REMEMBERED: Final = 20_000

Labels = Callable[[Caller], Mapping[str, str] | None]


def no_labels(_caller: Caller) -> Mapping[str, str] | None:
    """Return the labels of a pod where no pods are watched."""
    return None


@dataclass(slots=True)
class Workloads:
    """Finds workloads of callers; `labels` are those of the caller's pod, where they are known."""

    ledger: Ledger
    labels: Labels = no_labels
    _last: LRUCache[str, Workload] = field(
        default_factory=lambda: LRUCache(MAXIMUM_REMEMBERED), repr=False
    )
    _made: LRUCache[tuple[str, str], Workload | None] = field(
        default_factory=lambda: LRUCache(MAXIMUM_REMEMBERED), repr=False
    )

    def find(self, caller: Caller, metadata: Mapping[str, str]) -> Workload | None:
        """Return the workload of `caller`; None if nothing says which it is."""
        found = self._by_pod(caller) or self.ledger.find_workload(caller.holder)
        if found is not None:
            self._last[caller.holder] = found
            return found
        written = metadata.get(LABELS_KEY)
        if written is not None:
            return self._written(caller.evidence.namespace, written)
        return self._last.get(caller.holder)

    def _by_pod(self, caller: Caller) -> Workload | None:
        labels = self.labels(caller)
        return None if labels is None else Workload(caller.evidence.namespace, labels)

    def _written(self, namespace: str, text: str) -> Workload | None:
        if len(text) > LONGEST:
            return None
        key = (namespace, text)
        if key not in self._made:
            labels = read_labels(text)
            self._made[key] = None if labels is None else Workload(namespace, labels)
        return self._made[key]
