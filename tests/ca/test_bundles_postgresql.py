"""What is kept of bundles on PostgreSQL: as on SQLite, and with several writers at once."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ca.authority import Authorities
from ca.bundle_journal import BundleJournal, bundle_versions
from ca.federation.store import ACTIVE, REMOVED, Received, Relation, Stored, read_all
from meshca.database import GroupWriter, open_engine
from meshca.schema import migrate
from tests.builders import NOW, TRUST_DOMAIN, Pki, make_pki
from tests.fakes import FakeClock
from tests.stores import postgresql, writer_of

pytestmark = pytest.mark.end_to_end

PKIS = [make_pki(number=number) for number in range(1, 5)]
RELATION = Relation("partner.test", "https://partner.test/", "https_web")


@pytest.fixture(scope="module")
def engine() -> Iterator[sa.Engine]:
    with postgresql() as server:
        engine = open_engine(server.url)
        try:
            migrate(engine)
            yield engine
        finally:
            engine.dispose()


def journal(engine: sa.Engine, writer: GroupWriter, pki: Pki) -> BundleJournal:
    authorities = Authorities(TRUST_DOMAIN)
    authorities.activate(pki.authority(), (pki.root,), sequence=100)
    return BundleJournal(authorities=authorities, engine=engine, writer=writer, clock=FakeClock())


def test_replicas_at_once_give_each_content_a_number_of_its_own(engine: sa.Engine) -> None:
    async def story() -> list[int]:
        async with writer_of(engine) as one, writer_of(engine) as other:
            journals = [journal(engine, writer, pki) for pki in PKIS for writer in (one, other)]
            await asyncio.gather(*(each.record() for each in journals))
            return [each.current().sequence for each in journals]

    published = asyncio.run(story())

    with engine.connect() as connection:
        rows = connection.execute(sa.select(bundle_versions)).all()
    by_number = {row.sequence: row.digest for row in rows}
    assert len(by_number) == len(rows)
    assert set(published) <= set(by_number)
    assert len({by_number[number] for number in published}) == len(PKIS)


def test_a_bundle_is_kept_and_an_older_one_changes_nothing(engine: sa.Engine) -> None:
    later = NOW + timedelta(minutes=5)

    async def story() -> None:
        async with writer_of(engine) as writer:
            await writer.submit(Stored(RELATION, ACTIVE, NOW, 1, b"first"))
            await writer.submit(Received("partner.test", NOW, 3, b"\x00third", later))
            await writer.submit(Received("partner.test", NOW, 2, b"second", later))
            await writer.submit(Received("partner.test", later, 9, b"of another relation", later))
            assert read_all(engine) == [Stored(RELATION, ACTIVE, NOW, 3, b"\x00third", later)]

            await writer.submit(Stored(RELATION, REMOVED, later))
            await writer.submit(Received("partner.test", later, 4, b"late", later))
            assert read_all(engine) == [Stored(RELATION, REMOVED, later)]

    asyncio.run(story())
