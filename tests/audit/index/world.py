"""A log whose entries differ in everything that can be asked for, and its index."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

import sqlalchemy as sa

from audit.entry import KINDS, Entry
from audit.index.indexer import Indexer
from audit.index.tables import Segment, read_segments
from audit.log import EntrySink, Log
from meshca.metrics import Metrics
from meshca.name_locks import NameLocks, open_name_locks
from tests.stores import writer_of

START = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
_PAGE = 4_096


def identity(number: int) -> str:
    return f"spiffe://example.org/ns/team-{number % 7}/sa/service-{number}"


def entry(number: int) -> Entry:
    """Return entry `number`; the clock goes back now and then."""
    choose = random.Random(number)
    who = int(40 * choose.random() ** 2)
    return Entry(
        time=START + timedelta(seconds=number - 90 * (number % 500 == 0)),
        kind=choose.choice(("issuance", "issuance", "issuance", *KINDS[:6])),
        outcome=choose.choice(("done", "refused")),
        actor=f"uid:{choose.randrange(3)}",
        spiffe_id=identity(who),
        serial=f"{number + 1:x}",
        fingerprint=f"{number:064x}",
        cluster=choose.choice(("eu", "us", "")),
        namespace=f"team-{who % 7}",
        service_account=f"service-{who}",
        pod=f"service-{who}-{number // 3}",
        node=f"node-{number % 11}",
        destination="shop/orders" if number % 5 == 0 else "",
        policy=f"shop/policy-{number % 3}",
        request_id=f"request-{number}",
        reason="" if number % 4 else "expired",
        details={"message": f'number {number}: ÜBER “quoted” "text"'},
    )


def entries(start: int, stop: int) -> Iterator[Entry]:
    return map(entry, range(start, stop))


def append(engine: sa.Engine, made: Iterator[Entry]) -> None:
    """Append with the real sink, in few transactions."""
    while some := list(islice(made, _PAGE)):
        with (
            engine.connect().execution_options(meshca_writes=True) as connection,
            connection.begin(),
        ):
            EntrySink().append(connection, some)


def index(
    engine: sa.Engine, locks: NameLocks | None = None, metrics: Metrics | None = None
) -> None:
    """Bring the index up to the log."""

    async def story() -> None:
        async with writer_of(engine) as writer:
            held = locks or open_name_locks(engine)
            try:
                indexer = Indexer(
                    log=Log(engine), writer=writer, locks=held, metrics=metrics or Metrics()
                )
                await indexer.look()
            finally:
                if locks is None:
                    held.close()

    asyncio.run(story())


def segments(engine: sa.Engine) -> Sequence[Segment]:
    with engine.connect() as connection:
        return read_segments(connection)


def ranges(engine: sa.Engine) -> list[tuple[int, int]]:
    """Return what each segment covers: its first entry, and how many."""
    return [(s.first, s.entries) for s in segments(engine)]
