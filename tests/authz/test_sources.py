"""Directories and applied sets become one set in force; what does not load changes nothing."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from authz.overlay import NO_OVERLAY, Overlay
from authz.policy import PolicySet
from authz.sources import PolicyLoader, PolicyOptions
from authz.state import PolicyState
from authz.store import POLICIES_CHANGED, AppliedSet
from meshca.change_feed import ChangeFeed
from meshca.database import GroupWriter
from meshca.errors import InvalidDocument
from meshca.metrics import Metrics
from tests.authz.builders import document, load, rule, to_yaml
from tests.authz.source_place import API, WEB, Place, apply, run
from tests.fakes import FakeClock
from tests.stores import open_sqlite


@pytest.fixture
def place(tmp_path: Path) -> Place:
    directory = tmp_path / "policies"
    directory.mkdir()
    engine = open_sqlite(tmp_path)
    metrics = Metrics()
    loader = PolicyLoader(
        state=PolicyState(PolicySet.empty(trust_domain="example.org", root_namespace="meshca")),
        options=PolicyOptions("example.org", "meshca", "deny", (directory,)),
        engine=engine,
        clock=FakeClock(),
        metrics=metrics,
        poll_seconds=0.01,
    )
    made = Place(directory, loader, metrics)
    loader.on_source_change = made.changes.append
    return made


def test_start_loads_the_directory_and_the_newest_applied_set(place: Place) -> None:
    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        await apply(place, writer, API)

    run(place, story)
    place.write("web.yaml", WEB)
    place.loader.state.replace(load())
    place.loader.start()
    assert place.in_force == ["api", "web"]


def test_start_raises_for_an_invalid_set(place: Place) -> None:
    place.write("web.yaml", WEB)
    place.write("bad.yaml", to_yaml(document("bad", action="BLOCK")))
    with pytest.raises(InvalidDocument, match="'BLOCK' is none of"):
        place.loader.start()
    assert place.in_force == []


def test_a_changed_file_is_put_in_force_and_told(place: Place) -> None:
    async def story(_: GroupWriter) -> None:
        place.loader.start()
        place.write("web.yaml", WEB)
        assert await place.loader.reload()
        assert place.in_force == ["web"]
        assert [told.change.added for told in place.changes] == [("shop/web",)]
        assert await place.loader.reload()
        assert len(place.changes) == 1

    run(place, story)


def test_a_set_that_does_not_load_changes_nothing_and_is_counted_once(place: Place) -> None:
    place.write("web.yaml", WEB)

    async def story(_: GroupWriter) -> None:
        place.loader.start()
        place.write("bad.yaml", "spec: [")
        assert not await place.loader.reload()
        assert not await place.loader.reload()
        assert (place.in_force, place.failures(), place.changes) == (["web"], 1, [])
        place.write("bad.yaml", API)
        assert await place.loader.reload()
        assert place.in_force == ["api", "web"]

    run(place, story)


def test_a_file_that_keeps_changing_stays_as_it_was_until_it_settles(place: Place) -> None:
    deny = to_yaml(document("deny", action="DENY", rules=[{}]))
    place.write("web.yaml", f"{WEB}\n---\n{deny}")

    async def story(_: GroupWriter) -> None:
        place.loader.start()
        growing = [True]

        async def append() -> None:
            at = 0
            while growing:
                place.write("web.yaml", f"{WEB}\n# {at}\n")
                at += 1
                await asyncio.sleep(0.01)

        writing = asyncio.create_task(append())
        with structlog.testing.capture_logs() as logs:
            for _time in range(2):
                assert await place.loader.reload()
                assert place.in_force == ["deny", "web"]
        assert [each["event"] for each in logs] == ["policy_files_keep_changing"]
        (problem,) = place.loader.sources()[0].problems
        assert "web.yaml: keeps changing while it is read" in problem
        assert place.failures() == 1
        growing.clear()
        await writing
        assert await place.loader.reload()
        assert place.in_force == ["web"]
        assert place.loader.sources()[0].problems == ()

    run(place, story)


def test_a_directory_that_vanishes_leaves_the_last_good_set(place: Place) -> None:
    place.write("web.yaml", WEB)

    async def story(_: GroupWriter) -> None:
        place.loader.start()
        place.directory.rename(place.directory.with_name("gone"))
        assert not await place.loader.reload()
        assert (place.in_force, place.failures()) == (["web"], 1)

    run(place, story)


def test_the_watch_notices_by_itself_and_outlives_what_does_not_load(place: Place) -> None:
    async def story(_: GroupWriter) -> None:
        place.loader.start()
        watch = asyncio.create_task(place.loader.run())
        place.write("bad.yaml", "spec: [")
        await until(lambda: place.failures() == 1)
        place.write("bad.yaml", WEB)
        await until(lambda: place.in_force == ["web"])
        watch.cancel()

    run(place, story)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def test_a_database_that_is_silent_does_not_hold_up_the_directories(place: Place) -> None:
    answers = threading.Event()

    def wait(*_: object) -> None:
        answers.wait(30)

    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        await apply(place, writer, API)
        place.loader._applied.patience = 0.05
        sa.event.listen(place.loader.engine, "checkout", wait)
        try:
            place.write("web.yaml", WEB)
            async with asyncio.timeout(10):
                assert await place.loader.reload()
                place.write("orders.yaml", to_yaml(document("orders")))
                assert await place.loader.reload()
            assert place.in_force == ["api", "orders", "web"]
        finally:
            answers.set()
        applied = AppliedSet(2, FakeClock().now(), "uid:0", "", to_yaml(document("next")))
        await writer.submit(applied)
        async with asyncio.timeout(10):
            while "next" not in place.in_force:
                await place.loader.reload()
                await asyncio.sleep(0.01)

    run(place, story)


def test_an_overlay_is_laid_over_the_set_in_force_and_every_one_after_it(place: Place) -> None:
    place.write("web.yaml", WEB)
    overlay: Overlay[PolicySet] = Overlay(approvals=frozenset({"0" * 32}))
    state = place.loader.state

    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        bare = state.current.version
        assert place.loader.set_overlay(overlay)
        assert not place.loader.set_overlay(overlay)
        assert (state.current.overlay, state.current.version) == (
            overlay,
            bare + f"+{overlay.version}",
        )
        place.write("api.yaml", API)
        assert await place.loader.reload()
        prepared = await apply(place, writer, to_yaml(document("third")))
        assert prepared.change.after == state.current.version
        assert (state.current.overlay, place.in_force) == (overlay, ["api", "third", "web"])
        assert place.loader.set_overlay(NO_OVERLAY)
        assert "+" not in state.current.version

    run(place, story)


def test_another_replica_hears_of_an_applied_set_without_waiting_for_its_next_look(
    place: Place,
) -> None:
    loader = place.loader
    loader.poll_seconds = 3600

    async def story(writer: GroupWriter) -> None:
        loader.start()
        feed = ChangeFeed(loader.engine)
        feed.subscribe(POLICIES_CHANGED, loader.heed)
        await feed.look()
        tasks = [asyncio.create_task(feed.run()), asyncio.create_task(loader.run())]
        await writer.submit(AppliedSet(1, FakeClock().now(), "uid:0", "elsewhere", WEB))
        await until(lambda: place.in_force == ["web"])
        assert place.changes == []  # whoever applied it has the record
        for task in tasks:
            task.cancel()

    run(place, story)


def test_a_warning_is_logged_when_it_is_new_and_not_again(place: Place) -> None:
    foreign = document("far", rules=[rule({"principals": ["partner.test/ns/x/sa/y"]})])
    place.write("far.yaml", to_yaml(foreign))
    place.loader.start()
    with structlog.testing.capture_logs() as logs:
        place.write("web.yaml", WEB)

        async def story(_: GroupWriter) -> None:
            assert await place.loader.reload()
            place.write("far.yaml", "# moved\n" + to_yaml(foreign))
            place.write("other.yaml", to_yaml({**foreign, "metadata": {
                "name": "other", "namespace": "shop"}}))  # fmt: skip
            assert await place.loader.reload()

        run(place, story)
    warnings = [entry["problem"] for entry in logs if entry["event"] == "policy_warning"]
    assert len(warnings) == 1
    assert "other.yaml" in warnings[0]
