"""Keeps our bundle in the clusters' own objects: when it changes, and when somebody changes them.

Every place is looked at each SYNC_SECONDS, and at once when our bundle changes. A place that fails
is tried again after a wait that doubles, with jitter, and holds up neither another place nor
anything else of the service: requests run in threads, and nobody waits for them.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ca.bundle import TrustBundle
from ca.publication.cluster_trust_bundle import ClusterTrustBundle
from ca.publication.config_maps import ConfigMaps
from ca.publication.place import Place, Published, explain
from meshca.api_server import FAILURES, ApiServerConnection
from meshca.clock import Clock
from meshca.errors import AuthorityUnavailable
from meshca.logs import clip, get_logger
from meshca.metrics import Metrics
from meshca.settings import Publication

SYNC_SECONDS: Final = 30.0
FIRST_RETRY_SECONDS: Final = 2.0
LONGEST_RETRY_SECONDS: Final = 300.0
_TICK_SECONDS: Final = 0.5

log = get_logger("publication")


@dataclass(slots=True, eq=False)
class _Standing:
    """How one place stands; `due` is a reading of the monotonic clock."""

    place: Place
    due: float = 0.0
    failures: int = 0
    was_absent: bool = False
    task: "asyncio.Task[None] | None" = None


@dataclass(slots=True, kw_only=True)
class Publisher:
    """Publishes `bundle()` to every place; `run` is its loop."""

    places: Sequence[Place]
    bundle: Callable[[], TrustBundle]
    clock: Clock
    metrics: Metrics
    draw: random.Random = field(default_factory=random.SystemRandom)
    _standings: list[_Standing] = field(init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._standings = [_Standing(place) for place in self.places]

    def wake(self) -> None:
        """Publish at once: our bundle has changed."""
        for standing in self._standings:
            standing.due = 0.0
        self._changed.set()

    async def run(self) -> None:
        """Publish what is due until cancelled."""
        try:
            while True:
                self._changed.clear()
                self._start_due()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_SECONDS):
                        await self._changed.wait()
        finally:
            for standing in self._standings:
                if standing.task is not None:
                    standing.task.cancel()

    def _start_due(self) -> None:
        now = self.clock.monotonic()
        for standing in self._standings:
            is_busy = standing.task is not None and not standing.task.done()
            if standing.due <= now and not is_busy:
                standing.due = now + SYNC_SECONDS
                standing.task = asyncio.get_running_loop().create_task(self._publish(standing))

    async def _publish(self, standing: _Standing) -> None:
        """Publish to one place; what goes wrong is counted, logged, and tried again."""
        place = standing.place
        try:
            bundle = self.bundle()
            published = await asyncio.to_thread(place.publish, bundle)
        except AuthorityUnavailable:
            return
        except FAILURES as error:
            published = Published(behind=1, problems=(explain(error),))
        except Exception as error:  # noqa: BLE001  # outermost: whatever fails, the next try comes
            published = Published(behind=1, problems=(repr(error),))
        self._note(standing, published)

    def _note(self, standing: _Standing, published: Published) -> None:
        place, names = standing.place, (standing.place.cluster, standing.place.kind)
        self.metrics.bundle_publication_behind.labels(*names).set(published.behind)
        if published.written:
            log.info("bundle_published", cluster=place.cluster, kind=place.kind,
                     written=published.written)  # fmt: skip
        if published.is_absent and not standing.was_absent:
            log.info("bundle_place_absent", cluster=place.cluster, kind=place.kind,
                     hint="this API server does not have it: nothing to do")  # fmt: skip
        standing.was_absent = published.is_absent
        if not published.behind:
            standing.failures = 0
            return
        standing.failures += 1
        self.metrics.bundle_publication_failures.labels(*names).inc()
        longest = min(FIRST_RETRY_SECONDS * 2.0**standing.failures, LONGEST_RETRY_SECONDS)
        wait = longest * (0.5 + 0.5 * self.draw.random())
        standing.due = self.clock.monotonic() + wait
        log.error(
            "bundle_not_published",
            cluster=place.cluster,
            kind=place.kind,
            behind=published.behind,
            problems=[clip(problem) for problem in published.problems],
            next_try_seconds=round(wait, 1),
        )


def build_publisher(
    publications: Sequence[Publication],
    bundle: Callable[[], TrustBundle],
    *,
    clock: Clock,
    metrics: Metrics,
) -> Publisher:
    """Return the publisher of `bundle` to every place that the configuration names."""
    places = build_places(publications)
    return Publisher(places=places, bundle=bundle, clock=clock, metrics=metrics)


def build_places(publications: Sequence[Publication]) -> list[Place]:
    """Return the places that the configuration names; nothing is asked yet."""
    places: list[Place] = []
    for publication in publications:
        connection = ApiServerConnection(publication.api_server)
        if publication.config_map is not None:
            places.append(ConfigMaps(publication.cluster, connection, publication.config_map))
        if publication.cluster_trust_bundle is not None:
            target = publication.cluster_trust_bundle
            places.append(ClusterTrustBundle(publication.cluster, connection, target))
    return places
