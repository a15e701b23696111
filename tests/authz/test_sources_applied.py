"""Sets that were applied: each version is kept and heard of elsewhere; faults change nothing."""

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from authz.policy import PolicySet
from authz.sources import PolicyLoader, PolicyOptions, PreparedChange
from authz.state import PolicyState
from authz.store import AppliedSet, get
from meshca.database import GroupWriter
from meshca.errors import InvalidDocument, StoreUnavailable
from meshca.metrics import Metrics
from tests.authz.builders import document, to_yaml
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


def test_apply_replaces_the_applied_set_and_keeps_each_version(place: Place) -> None:
    place.write("web.yaml", WEB)

    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        first = await apply(place, writer, API)
        assert place.in_force == ["api", "web"]
        second = await apply(place, writer, to_yaml(document("orders")))
        assert place.in_force == ["orders", "web"]
        assert (first.applied.version, second.applied.version) == (1, 2)
        assert str(second.change) == "1 added, 1 removed"
        assert second.change.details()["removed"] == {"count": 1, "policies": ["shop/api"]}
        assert get(place.loader.engine, 1).documents == API
        assert await place.loader.reload()
        assert place.changes == []

    run(place, story)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (to_yaml(document("x", action="BLOCK")), "applied set 1:1: spec.action"),
        (WEB, "shop/web is already defined in"),
        ("# nothing\n", "holds no policy; nothing was applied"),
    ],
    ids=["invalid", "defined twice", "empty"],
)
def test_apply_refuses_what_does_not_load_with_the_rest(
    place: Place, text: str, message: str
) -> None:
    place.write("web.yaml", WEB)

    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        with pytest.raises(InvalidDocument, match=message):
            await apply(place, writer, text)
        assert place.in_force == ["web"]

    run(place, story)


def test_apply_that_cannot_be_recorded_changes_nothing(place: Place) -> None:
    async def refuse(_: PreparedChange) -> None:
        raise StoreUnavailable("the disk is full")

    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        with pytest.raises(StoreUnavailable):
            await place.loader.apply(WEB, author="uid:0", reason="test", record=refuse)
        assert place.in_force == []
        assert (await apply(place, writer, WEB)).applied.version == 1

    run(place, story)


def test_two_applies_at_once_get_two_versions(place: Place) -> None:
    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        first, second = await asyncio.gather(apply(place, writer, WEB), apply(place, writer, API))
        assert (first.applied.version, second.applied.version) == (1, 2)
        assert place.in_force == ["api"]

    run(place, story)


def test_an_apply_by_another_process_is_seen(place: Place) -> None:
    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        await writer.submit(AppliedSet(1, FakeClock().now(), "uid:0", "elsewhere", WEB))
        assert await place.loader.reload()
        assert (place.in_force, place.changes) == (["web"], [])

    run(place, story)


def test_a_broken_directory_is_no_obstacle_to_apply(place: Place) -> None:
    place.write("web.yaml", WEB)

    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        place.write("web.yaml", "spec: [")
        assert not await place.loader.reload()
        await apply(place, writer, API)
        assert place.in_force == ["api", "web"]

    run(place, story)


def test_a_broken_directory_is_no_obstacle_to_a_set_that_was_applied_elsewhere(
    place: Place,
) -> None:
    place.write("web.yaml", WEB)
    elsewhere = [AppliedSet(n + 1, FakeClock().now(), "uid:0", "", t) for n, t in enumerate(
        (API, to_yaml(document("web")), to_yaml(document("orders"))))]  # fmt: skip

    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        place.write("web.yaml", "spec: [")
        await writer.submit(elsewhere[0])
        assert not await place.loader.reload()
        assert (place.in_force, place.loader.applied_version) == (["api", "web"], 1)
        assert (len(place.loader.problems), place.changes) == (1, [])
        assert not await place.loader.reload()
        assert place.failures() == 1, "what is broken is still known, and not counted again"
        await writer.submit(elsewhere[1])
        assert not await place.loader.reload()
        assert place.loader.applied_version == 1, "it does not load with what is in force"
        await writer.submit(elsewhere[2])
        assert not await place.loader.reload()
        assert place.in_force == ["orders", "web"]
        place.write("web.yaml", to_yaml(document("site")))
        assert await place.loader.reload()
        assert (place.in_force, place.loader.problems) == (["orders", "site"], ())
        assert [told.origin for told in place.changes] == ["directory"]

    run(place, story)


def test_a_database_that_does_not_answer_leaves_the_applied_set(place: Place) -> None:
    async def story(writer: GroupWriter) -> None:
        place.loader.start()
        await apply(place, writer, API)
        refuse = sa.exc.OperationalError("", {}, Exception("away"))

        def checkout(*_: object) -> None:
            raise refuse

        sa.event.listen(place.loader.engine, "checkout", checkout)
        place.write("web.yaml", WEB)
        with structlog.testing.capture_logs() as logs:
            assert await place.loader.reload()
            assert await place.loader.reload()
        sa.event.remove(place.loader.engine, "checkout", checkout)
        events = [each["event"] for each in logs]
        assert events.count("applied_policies_unknown") == 1
        assert place.in_force == ["api", "web"]

    run(place, story)
