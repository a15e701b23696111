"""The labels of a cluster's pods, by the UID that a pod's token carries.

An informer: it lists and watches the pods' metadata (never their specs), and holds for each pod its
labels alone. Pods of one template share one mapping, so that 100,000 pods fit in tens of
megabytes. While an API server is away the labels are those of before; of a pod that came since, and
of a cluster that is not watched, nothing is known.

Labels select which policies a workload enforces on itself. They are no part of anybody's identity.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from cachetools import LRUCache

from authz.kubernetes.reflector import (
    Broken,
    Changed,
    Deleted,
    Event,
    Listed,
    Reflector,
    Waits,
)
from authz.kubernetes.requests import Resource
from meshca.api_server import ApiServerConnection
from meshca.clock import Clock
from meshca.logs import get_logger
from meshca.metrics import Metrics

PODS: Final = Resource("/api/v1/pods", is_metadata_only=True)
_SHARED: Final = 20_000

Labels = Mapping[str, str]
Callback = Callable[[str, frozenset[str]], None]
log = get_logger("authz")


class SharedLabels:
    """Makes one mapping of equal labels, as far as it remembers."""

    def __init__(self) -> None:
        self._known: LRUCache[frozenset[tuple[str, str]], Labels] = LRUCache(_SHARED)

    def get(self, labels: Mapping[str, str]) -> Labels:
        """Return a mapping equal to `labels` that never changes."""
        key = frozenset(labels.items())
        known = self._known.get(key)
        if known is None:
            copy = {sys.intern(name): sys.intern(value) for name, value in labels.items()}
            known = self._known[key] = MappingProxyType(copy)
        return known


@dataclass(slots=True, eq=False, kw_only=True)
class PodLabels:
    """The labels of pods of each cluster in `connections`; `run` keeps them current.

    Belongs to the event loop.
    """

    connections: Mapping[str, ApiServerConnection]
    clock: Clock
    metrics: Metrics
    waits: Waits = field(default_factory=Waits)
    _pods: dict[str, dict[str, Labels]] = field(default_factory=dict)
    _problems: dict[str, str] = field(default_factory=dict)
    _callbacks: dict[object, Callback] = field(default_factory=dict)

    def labels_of(self, cluster: str, pod_uid: str) -> Labels | None:
        """Return the labels of a pod, or None when nothing is known of it."""
        return self._pods.get(cluster, {}).get(pod_uid)

    def subscribe(self, callback: Callback) -> Callable[[], None]:
        """Call `callback` with a cluster and the UIDs of pods whose labels are not what they were.

        Return what ends that.
        """
        key = object()
        self._callbacks[key] = callback

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)

        return unsubscribe

    def problems(self) -> Mapping[str, str]:
        """Return why the labels of a cluster may be out of date, by cluster."""
        return dict(self._problems)

    async def run(self) -> None:
        """Follow the pods of every cluster until cancelled."""
        loop = asyncio.get_running_loop()

        def teller(cluster: str) -> Callable[[Event], None]:
            def tell(event: Event) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is gone: nobody listens
                    loop.call_soon_threadsafe(self._take, cluster, event)

            return tell

        reflectors = [
            Reflector(
                connection=connection,
                resource=PODS,
                read=PodReader().read,
                tell=teller(cluster),
                clock=self.clock,
                waits=self.waits,
            )
            for cluster, connection in self.connections.items()
        ]
        try:
            for reflector in reflectors:
                reflector.start()
            await asyncio.Event().wait()
        finally:
            for reflector in reflectors:
                reflector.stop()

    def _take(self, cluster: str, event: Event) -> None:
        pods = self._pods.setdefault(cluster, {})
        if isinstance(event, Broken):
            self._note(cluster, event.reason)
            return
        self._note(cluster, "")
        if isinstance(event, Listed):
            self._pods[cluster] = dict(event.objects)
            self._tell(cluster, _different(pods, self._pods[cluster]))
        elif isinstance(event, Changed) and pods.get(event.key) != event.value:
            pods[event.key] = event.value
            self._tell(cluster, (event.key,))
        elif isinstance(event, Deleted) and pods.pop(event.key, None) is not None:
            self._tell(cluster, (event.key,))

    def _tell(self, cluster: str, uids: Iterable[str]) -> None:
        changed = frozenset(uids)
        if not changed:
            return
        for callback in tuple(self._callbacks.values()):
            try:
                callback(cluster, changed)
            except Exception:  # one subscriber's error must not keep the labels from the others
                log.exception("pod_labels_subscriber_failed")

    def _note(self, cluster: str, problem: str) -> None:
        before = self._problems.get(cluster, "")
        if problem == before:
            return
        self.metrics.pod_labels_stale.labels(cluster).set(bool(problem))
        if problem:
            self._problems[cluster] = problem
            log.error("pod_labels_stale", cluster=cluster, problem=problem)
        else:
            del self._problems[cluster]
            log.info("pod_labels_current", cluster=cluster)


@dataclass(slots=True)
class PodReader:
    """Reads pods of one cluster."""

    shared: SharedLabels = field(default_factory=SharedLabels)

    def read(self, item: Mapping[str, Any]) -> tuple[str, Labels]:
        """Return a pod's UID and labels."""
        metadata: Mapping[str, Any] = item["metadata"]
        return str(metadata["uid"]), self.shared.get(metadata.get("labels") or {})


def _different(before: Mapping[str, Labels], after: Mapping[str, Labels]) -> set[str]:
    """Return the UIDs whose labels differ, or that are in one of both only."""
    return {
        uid for uid in before.keys() | after.keys() if before.get(uid) is not after.get(uid)
        and before.get(uid) != after.get(uid)
    }  # fmt: skip
