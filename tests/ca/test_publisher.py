"""The publisher: it waits longer after each failure, and one place does not hold up another."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from ca.bundle import TrustBundle
from ca.publication.place import Place, Published
from ca.publication.publisher import Publisher
from meshca.errors import AuthorityUnavailable
from meshca.metrics import Metrics
from tests.builders import TRUST_DOMAIN, make_pki
from tests.fakes import FakeClock

BUNDLE = TrustBundle(TRUST_DOMAIN, (make_pki().root,), 1)


@dataclass
class FakePlace:
    """A place that answers, or fails, as the test says."""

    kind: str = "config_map"
    cluster: str = "test"
    answer: Published | Exception = field(default_factory=Published)
    published: list[TrustBundle] = field(default_factory=list)

    def publish(self, bundle: TrustBundle) -> Published:
        """Do what the test said."""
        self.published.append(bundle)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def once(publisher: Publisher) -> None:
    """Publish what is due now, and wait for it."""
    publisher._start_due()
    await asyncio.gather(*(s.task for s in publisher._standings if s.task is not None))


def publisher_of(
    *places: Place,
    bundle: Callable[[], TrustBundle] = lambda: BUNDLE,
    metrics: Metrics | None = None,
) -> tuple[Publisher, FakeClock]:
    clock, metrics = FakeClock(), metrics or Metrics()
    return Publisher(places=places, bundle=bundle, clock=clock, metrics=metrics), clock


def waits(place: FakePlace, rounds: int) -> list[float]:
    """Return how long the publisher waits after each of its rounds."""

    async def story() -> list[float]:
        publisher, clock = publisher_of(place)
        (standing,) = publisher._standings
        found = []
        for _ in range(rounds):
            await once(publisher)
            found.append(standing.due - clock.monotonic())
            clock.advance(timedelta(seconds=found[-1] + 0.01))
        return found

    return asyncio.run(story())


def test_it_looks_again_after_thirty_seconds() -> None:
    place = FakePlace()

    assert waits(place, 3) == [30.0, 30.0, 30.0]
    assert len(place.published) == 3


def test_it_waits_longer_after_each_failure_up_to_five_minutes() -> None:
    found = waits(FakePlace(answer=Published(behind=1, problems=("403 Forbidden",))), 10)

    assert 2 <= found[0] <= 4
    assert all(wait <= 300 for wait in found)
    assert found[-1] >= 150


def test_a_place_that_breaks_is_counted_and_does_not_hold_up_another() -> None:
    metrics = Metrics()

    async def story() -> tuple[FakePlace, FakePlace]:
        broken = FakePlace(answer=ConnectionRefusedError("nobody there"))
        odd = FakePlace(kind="odd", answer=RuntimeError("a defect of ours"))
        sound = FakePlace(kind="cluster_trust_bundle")
        publisher, _ = publisher_of(broken, odd, sound, metrics=metrics)
        await once(publisher)
        return broken, sound

    broken, sound = asyncio.run(story())

    assert broken.published == sound.published == [BUNDLE]
    for kind, behind in (("config_map", 1), ("odd", 1), ("cluster_trust_bundle", 0)):
        labels = {"cluster": "test", "kind": kind}
        sample = metrics.registry.get_sample_value
        assert sample("meshca_bundle_publication_behind", labels) == behind
        assert (sample("meshca_bundle_publication_failures_total", labels) or 0) == behind


def test_a_change_is_published_without_waiting() -> None:
    async def story() -> int:
        place = FakePlace()
        publisher, _ = publisher_of(place)
        await once(publisher)
        await once(publisher)
        publisher.wake()
        await once(publisher)
        return len(place.published)

    assert asyncio.run(story()) == 2


def test_nothing_is_published_before_there_is_a_bundle() -> None:
    def none_yet() -> TrustBundle:
        raise AuthorityUnavailable("no trust bundle is loaded yet")

    async def story() -> list[TrustBundle]:
        place = FakePlace()
        publisher, _ = publisher_of(place, bundle=none_yet)
        await once(publisher)
        return place.published

    assert asyncio.run(story()) == []
