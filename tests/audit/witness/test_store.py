"""What was cosigned last goes forward by comparison, and nothing is written with what does not."""

import asyncio

import pytest
import sqlalchemy as sa

from audit.witness.store import Advance, Seen, read_all_seen, read_seen
from meshca.errors import Conflict, MeshcaError
from tests.audit.anchors.notes import ORIGIN, SmallLog
from tests.audit.test_log import entry
from tests.fakes import FakeClock
from tests.stores import documents, writer_of

LOG, NOW = SmallLog(), FakeClock().now()


def seen(size: int, log: SmallLog = LOG) -> Seen:
    published = log.at(size)
    return Seen(size, published.checkpoint.root, str(published.note))


def test_a_log_that_has_moved_meanwhile_is_left_where_it_is(both_engines: sa.Engine) -> None:
    async def story() -> None:
        async with writer_of(both_engines) as writer:
            await writer.submit(Advance(ORIGIN, Seen(), seen(3), NOW))
            await writer.submit(Advance(ORIGIN, seen(3), seen(5), NOW), entry(1))
            stale = (seen(3), seen(5, SmallLog(view="other")), Seen())
            for before in stale:
                with pytest.raises(MeshcaError):
                    await writer.submit(Advance(ORIGIN, before, seen(9), NOW), entry(2))
            assert read_seen(both_engines, ORIGIN) == seen(5)
            assert [document["serial"] for document in documents(both_engines)] == ["1"]
            assert read_all_seen(both_engines) == {ORIGIN: (5, NOW)}

    asyncio.run(story())


def test_of_two_that_begin_at_once_one_is_refused(both_engines: sa.Engine) -> None:
    async def story() -> list[object]:
        async with writer_of(both_engines) as one, writer_of(both_engines) as two:
            begun = [w.submit(Advance(ORIGIN, Seen(), seen(4), NOW)) for w in (one, two)]
            await asyncio.gather(*begun, return_exceptions=True)
            both = [
                one.submit(Advance(ORIGIN, seen(4), seen(6), NOW)),
                two.submit(Advance(ORIGIN, seen(4), seen(7), NOW)),
            ]
            return list(await asyncio.gather(*both, return_exceptions=True))

    outcomes = asyncio.run(story())

    assert [type(outcome) for outcome in outcomes if outcome is not None] == [Conflict]
