"""Decisions for applications over the network: about themselves, recorded, and nothing else."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from admin.decision_entries import DecisionEntries
from admin.roles import Roles
from authz.check import check
from authz.records.observed import Observed
from authz.workload import Workload
from tests.admin.test_decisions import ASKED
from tests.admin.visitors import recorded, roles, svid, visitor
from tests.admin.world import ORDERS, POLICY, World, error, running

OWN = Workload("shop", {"app": "orders"})
EVERY_SVID = roles(application=["spiffe://example.org/ns/shop/*"])
Story = Callable[[World, Any, list[Observed]], Awaitable[None]]


def play(
    tmp_path: Path, story: Story, *, given: Roles = EVERY_SVID, own: Workload | None = OWN
) -> None:
    """Run `story` with a client that shows the SVID of `orders`, whose workload is `own`."""

    async def scene() -> None:
        async with running(tmp_path) as world:
            applied = {"documents": POLICY, "reason": "test"}
            assert (await world.client.post("/policies", json=applied)).status_code == 200
            seen: list[Observed] = []
            world.state.applications.recorder.observers.subscribe(seen.append)
            applications = replace(world.state.applications, workload_of=lambda _caller: own)
            world.state = replace(world.state, applications=applications)
            chain = await svid(world, ORDERS, namespace="shop")
            await story(world, visitor(world, given, chain=chain), seen)

    asyncio.run(scene())


def test_it_is_answered_as_the_engine_decides_and_the_decision_is_recorded(tmp_path: Path) -> None:
    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        answer = (await client.post("/authz/check", json=ASKED)).json()
        expected = check(world.state.policies.current, ASKED, now=0.0)
        assert answer.pop("version") == world.state.policies.current.version
        assert answer == expected
        (observed,) = seen
        assert (observed.door, observed.destination, observed.allowed) == (
            "application",
            ORDERS,
            True,
        )
        assert recorded(world, "read") == []

    play(tmp_path, story)


def test_what_it_claims_of_a_source_is_recorded_as_its_claim(tmp_path: Path) -> None:
    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        recorder = world.state.applications.recorder
        recorder.entries_of = DecisionEntries()
        victim = "spiffe://example.org/ns/bank/sa/treasurer"
        asked = {**ASKED, "source": {"principal": victim}, "http": {"method": "DELETE"}}
        assert (await client.post("/authz/check", json=asked)).json()["verdict"] == "deny"
        await recorder.flush(with_current=True)
        for kind in ("decision", "decision_count"):
            (entry,) = recorded(world, kind)
            assert (entry["actor"], entry["spiffe_id"]) == (ORDERS, "")
            assert entry["details"]["claimed_source"] == victim

    play(tmp_path, story)


def test_what_it_leaves_out_is_its_own_workload(tmp_path: Path) -> None:
    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        asked = {**ASKED, "destination": {"port": 80}}
        assert (await client.post("/authz/check", json=asked)).json()["verdict"] == "allow"
        assert (seen[0].request.destination, seen[0].request.port) == (OWN, 80)

    play(tmp_path, story)


def test_it_may_not_ask_about_anybody_else(tmp_path: Path) -> None:
    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        for other in ({"namespace": "bank"}, {"namespace": "shop", "labels": {"app": "till"}}):
            asked = {**ASKED, "destination": other}
            for body in (asked, {"requests": [ASKED, asked]}):
                status, code, message = error(await client.post("/authz/check", json=body))
                assert (status, code) == (403, "permission_denied")
                assert "its own workload only: shop/app=orders" in message
        assert seen == []
        await world.writer.submit()
        reasons = {entry["reason"] for entry in recorded(world, "refusal")}
        assert reasons == {"not_its_workload"}

    play(tmp_path, story)


def test_without_a_known_workload_it_may_ask_about_none(tmp_path: Path) -> None:
    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        status, _, message = error(await client.post("/authz/check", json=ASKED))
        assert (status, seen) == (403, [])
        assert "admin.applications" in message

    play(tmp_path, story, own=None)


def test_it_is_configured_to_ask_more_widely(tmp_path: Path) -> None:
    below = "spiffe://example.org/ns/shop/*"
    wide = roles(application=[below], wide={below: ["shop"]})

    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        assert (await client.post("/authz/check", json=ASKED)).json()["verdict"] == "allow"
        bank = {**ASKED, "destination": {"namespace": "bank"}}
        assert error(await client.post("/authz/check", json=bank))[0] == 403
        assert len(seen) == 1

    play(tmp_path, story, given=wide, own=None)


def test_what_is_no_request_is_denied_and_too_many_are_refused(tmp_path: Path) -> None:
    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        bad = {"requests": ["x", {"http": 1}, {**ASKED, "time": "2020-01-01T00:00:00Z"}]}
        answers = (await client.post("/authz/check", json=bad)).json()["answers"]
        assert [each["verdict"] for each in answers] == ["deny", "deny", "allow"]
        assert seen[0].request.time == world.clock.now().timestamp()
        many = {"requests": [ASKED] * 1_001}
        assert error(await client.post("/authz/check", json=many))[0] == 400

    play(tmp_path, story)


def test_it_asks_while_nothing_can_be_recorded(tmp_path: Path) -> None:
    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        with world.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO away")
        assert (await client.post("/authz/check", json=ASKED)).json()["verdict"] == "allow"

    play(tmp_path, story)


def test_an_auditor_asks_about_anything_and_that_is_a_read(tmp_path: Path) -> None:
    async def story(world: World, client: Any, seen: list[Observed]) -> None:
        bank = {**ASKED, "destination": {"namespace": "bank"}}
        assert (await client.post("/authz/check", json=bank)).json()["verdict"] == "deny"
        (read,) = recorded(world, "read")
        assert read["details"]["route"] == "POST /v1/authz/check"
        assert seen == []

    play(tmp_path, story, given=roles(auditor=[ORDERS]))
