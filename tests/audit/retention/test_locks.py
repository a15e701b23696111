"""Redacting, and what others write at the same time on PostgreSQL: nobody waits in a circle."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from audit.entry import Entry
from audit.index.building import SMALL
from audit.index.tables import INDEX_SINKS, Opening, Publication, read_segments
from audit.log import EntrySink, Log
from audit.retention.holds import Hold, HoldChange, HoldSink, Scope, Step
from audit.retention.redaction import Candidate, Redact, RedactionSink
from tests.audit.retention.world import NOW, OLD, RULES, append, empty_database, entry
from tests.real_parts import wait_until
from tests.stores import Postgresql

OPENING = Opening(1, 0, SMALL)


@pytest.fixture
def engine(server: Postgresql, tmp_path: Path) -> Iterator[sa.Engine]:
    """A PostgreSQL with a small log."""
    with empty_database("postgresql", tmp_path, server) as engine:
        append(engine, *(entry(number, time=OLD) for number in range(SMALL)))
        yield engine


@dataclass(frozen=True, slots=True)
class Pausing(EntrySink):
    """Appends once the others have come as far as they can."""

    pause: Callable[[], None]

    def append(self, connection: sa.Connection, entries: Sequence[Entry]) -> range:
        """Wait, then append."""
        self.pause()
        return EntrySink.append(self, connection, entries)


def somebody_waits(engine: sa.Engine) -> bool:
    """Return whether a transaction waits for a lock of another."""
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return bool(connection.exec_driver_sql(query).scalar())


def beside_a_redaction(engine: sa.Engine, act: Callable[[sa.Connection], None]) -> bool:
    """Redact entry 5, and `act` when it is marked; return whether the body was there then still."""
    others = ThreadPoolExecutor(1)
    acting = []

    def other() -> bool:
        with engine.begin() as connection:
            act(connection)
        return Log(engine).get([5])[0].body is not None

    def pause() -> None:
        acting.append(others.submit(other))
        wait_until(
            lambda: somebody_waits(engine) or acting[0].done(),
            within_seconds=30,
            what="the other to wait, or to be done",
        )

    due = Candidate(5, int(OLD.timestamp() * 1e6), "read")
    record = Redact(NOW, (due,), RULES.cutoffs(NOW), RULES.as_text())
    with others, engine.begin() as connection:
        RedactionSink(Pausing(pause)).write(connection, [record])
    return acting[0].result()


def publish(connection: sa.Connection) -> None:
    """Do what a writer does with an issuance and a segment: in its order."""
    EntrySink().append(connection, [entry(1, time=NOW)])
    INDEX_SINKS[Publication].write(connection, [Publication(OPENING, [0, 0], {})])


def hold(connection: sa.Connection) -> None:
    """Place a hold, in a transaction that has appended something before."""
    EntrySink().append(connection, [entry(1, time=NOW)])
    placed = Hold(name="hold-1", scope=Scope(everything=True), placed=Step(NOW, "uid:0", "case"))
    HoldSink().write(connection, [HoldChange(placed)])


def open_segment(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        INDEX_SINKS[Opening].write(connection, [OPENING])


def test_a_segment_is_not_published_beside_a_redaction_in_it(engine: sa.Engine) -> None:
    open_segment(engine)
    with pytest.raises(Exception, match="redacted meanwhile"):
        beside_a_redaction(engine, publish)
    assert Log(engine).get([5])[0].body is None


def test_a_hold_waits_for_the_redaction(engine: sa.Engine) -> None:
    assert beside_a_redaction(engine, hold) is False


def test_a_segment_is_opened_before_a_redaction_or_after_it(engine: sa.Engine) -> None:
    def open_it(connection: sa.Connection) -> None:
        INDEX_SINKS[Opening].write(connection, [OPENING])

    is_there = beside_a_redaction(engine, open_it)
    with engine.connect() as connection:
        (segment,) = read_segments(connection)
    assert segment.redactions or not is_there, "it is marked, or made of what is left"
