"""Starts and stops in the audit log: version, configuration, and the stop that was not recorded."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from audit.entry import Entry
from audit.log import Log
from audit.milestones import MILESTONES, newest
from authz.policy import PolicySet
from authz.sources import PolicyLoader, PolicyOptions
from authz.state import PolicyState
from meshca.database import open_engine
from meshca.metrics import Metrics
from meshca.process_entries import start_entries, stop_entry
from meshca.schema import migrate
from meshca.settings import Settings
from tests.audit.test_log import entry
from tests.fakes import FakeClock
from tests.meshca.configuration import GOOD, loaded
from tests.stores import postgresql, sqlite_engine, writer_of


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """A migrated database of each kind."""
    if request.param == "sqlite":
        with sqlite_engine(tmp_path) as engine:
            yield engine
        return
    with postgresql() as server:
        engine = open_engine(server.url)
        try:
            migrate(engine)
            yield engine
        finally:
            engine.dispose()


def loader(engine: sa.Engine) -> PolicyLoader:
    """Return a loader of nothing."""
    nothing = PolicySet.empty(trust_domain="example.org", root_namespace="meshca")
    options = PolicyOptions("example.org", "meshca", "deny")
    state = PolicyState(nothing)
    return PolicyLoader(
        state=state, options=options, engine=engine, clock=FakeClock(), metrics=Metrics()
    )


def write(engine: sa.Engine, *entries: Entry) -> None:
    async def story() -> None:
        async with writer_of(engine) as writer:
            await writer.submit(*entries)

    asyncio.run(story())


def start(engine: sa.Engine, settings: Settings) -> list[dict[str, Any]]:
    """Record a start; return what was written."""
    before = Log(engine).head().size
    write(engine, *start_entries(settings, loader(engine), engine, FakeClock().now()))
    return [each.document() or {} for each in Log(engine).entries(before)]


def stop(engine: sa.Engine, settings: Settings) -> None:
    write(engine, stop_entry(settings, loader(engine), FakeClock().now()))


def test_a_start_has_version_and_configuration_and_a_stop_ends_it(
    engine: sa.Engine, tmp_path: Path
) -> None:
    settings = loaded(tmp_path, GOOD)
    first = start(engine, settings)
    assert [each["kind"] for each in first] == ["configuration", "server_start"]
    told = first[1]["details"]
    assert told["configuration"] == first[0]["details"]["digest"]
    assert set(told) >= {"version", "python", "host", "replica", "policy_version"}
    stop(engine, settings)
    assert [each["kind"] for each in start(engine, settings)] == ["server_start"]


def test_a_stop_that_was_not_recorded_is_a_gap_of_that_replica(
    engine: sa.Engine, tmp_path: Path
) -> None:
    one, two = (loaded(tmp_path, f"{GOOD}replica: {name}\n") for name in ("one", "two"))
    begun = start(engine, one)[-1]
    assert [each["kind"] for each in start(engine, two)] == ["configuration", "server_start"]
    stop(engine, two)
    gap, again = start(engine, one)
    assert (gap["kind"], gap["reason"], again["kind"]) == (
        "gap",
        "stop_not_recorded",
        "server_start",
    )
    assert gap["details"]["since"] == begun["time"]
    assert (gap["details"]["replica"], gap["details"]["unrecorded"]) == ("one", None)


def test_the_newest_entries_of_a_kind_are_found_without_looking_through_the_log(
    engine: sa.Engine,
) -> None:
    kinds = ("server_start", "issuance", "server_stop", "issuance", "policy_change")
    write(engine, *(entry(number, kind=kind) for number, kind in enumerate(kinds)))
    found = [(each.index, each.kind) for each in newest(engine, *MILESTONES)]
    assert found == [(4, "policy_change"), (2, "server_stop"), (0, "server_start")]
    assert [each.index for each in newest(engine, "server_start")] == [0]


def test_sqlite_uses_the_index(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        asked: list[tuple[str, Any]] = []
        sa.event.listen(
            engine,
            "before_cursor_execute",
            lambda _c, _k, text, values, *_: asked.append((text, values)),
        )
        list(newest(engine, "server_start"))
        text, values = next(each for each in asked if "leaf_index" in each[0])
        with engine.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
    assert "ix_audit_entries_milestones" in str(plan)
