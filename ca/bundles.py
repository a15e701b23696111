"""What is done with trust bundles beyond our own proxies, joined: number, fetch, publish."""

from dataclasses import dataclass

import sqlalchemy as sa

from ca.authority import Authorities
from ca.bundle_journal import BundleJournal
from ca.federation.endpoint import BundleEndpoints
from ca.federation.federation import Federation
from ca.publication.publisher import Publisher, build_publisher
from meshca.clock import Clock
from meshca.database import GroupWriter
from meshca.metrics import Metrics
from meshca.settings import Settings


@dataclass(frozen=True, slots=True)
class Bundles:
    """Our bundle's number, other trust domains' bundles, and where ours is published."""

    journal: BundleJournal
    federation: Federation
    publisher: Publisher


def build_bundles(
    settings: Settings,
    authorities: Authorities,
    *,
    engine: sa.Engine,
    writer: GroupWriter,
    clock: Clock,
    metrics: Metrics,
) -> Bundles:
    """Return the parts; each hears of changes of our bundle, and nothing runs yet."""
    federation = Federation(
        trust_domain=settings.trust_domain,
        own=lambda: authorities.bundle,
        endpoints=BundleEndpoints(),
        engine=engine,
        writer=writer,
        clock=clock,
        metrics=metrics,
    )
    journal = BundleJournal(authorities=authorities, engine=engine, writer=writer, clock=clock)
    authorities.subscribe(journal.wake)
    publisher = build_publisher(settings.publish, journal.current, clock=clock, metrics=metrics)
    journal.subscribe(publisher.wake)
    return Bundles(journal, federation, publisher)
