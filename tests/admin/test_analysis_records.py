"""Explaining, replaying and suggesting over the admin door; nothing of it changes anything."""

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from authz.records.operation import Operation
from authz.records.tables import Gap, MinuteCount, Outcome
from authz.request import Http, Request
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId
from tests.admin.world import ORDERS, World, error, intent, proxy, running
from tests.authz.builders import document, rule, to_yaml

WEB = "example.org/ns/shop/sa/web"
READ = rule({"principals": [WEB]}, {"methods": ["GET"], "paths": ["/items/*"]})
ASKED = {
    "source": {"principal": WEB},
    "destination": {"namespace": "shop", "labels": {"app": "orders"}, "port": 8080},
    "http": {"method": "POST", "path": "/items/1"},
}


async def record(world: World, *paths: str) -> str:
    """Record an allowed GET of each path; return a time before all of them."""
    at = world.clock.now() - timedelta(minutes=5)
    minute = int(at.timestamp()) // 60 * 60
    source, workload = SpiffeId.parse(f"spiffe://{WEB}"), Workload("shop", {"app": "orders"})
    for path in paths:
        request = Request(source, workload, port=8080, http=Http("GET", path))
        operation = Operation.of(request, "spiffe://example.org/ns/shop/sa/orders")
        counted = MinuteCount(minute, operation, Outcome(True, "", None), 3, at, at)
        await world.writer.submit(counted)
    await world.writer.submit(Gap(at, at, "full", 2))
    return (at - timedelta(hours=1)).isoformat()


def test_a_check_is_explained_and_a_workload_too(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            checked = await world.client.post("/authz/check/explained", json={"request": ASKED})
            workload = {"namespace": "shop", "labels": {"app": "orders"}}
            explained = await world.client.post("/authz/explain", json=workload)
            refused = await world.client.post("/authz/explain", json={"namespace": ""})
            return checked.json(), explained.json(), refused

    checked, explained, refused = asyncio.run(story())
    assert checked["verdict"] == "deny"
    assert checked["would_allow"][0]["of"] == "policy"
    assert "no ALLOW policy is attached" in explained["steps"][0]
    assert error(refused)[:2] == (400, "invalid_argument")


class Slow(dict[Workload, Any]):
    """The memory of a set, which answers when it is told to, and knows who waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[threading.Thread] = []
        self.is_free = threading.Event()

    def get(self, *asked: Any) -> Any:
        """Wait, and answer."""
        self.asked.append(threading.current_thread())
        self.is_free.wait(10)
        return super().get(*asked)


def test_explaining_holds_nobody_up_and_is_done_one_at_a_time(tmp_path: Path) -> None:
    slow, explained = Slow(), {"namespace": "shop"}

    async def story() -> list[int]:
        async with running(tmp_path) as world:
            current = world.state.policies.current
            world.state.policies.replace(replace(current, compiled=slow, version="slow"))
            post = world.client.post
            asked = [
                asyncio.create_task(post("/authz/explain", json=explained)),
                asyncio.create_task(post("/authz/check/explained", json={"request": ASKED})),
            ]
            async with asyncio.timeout(20):
                while not slow.asked:
                    await asyncio.sleep(0.01)
            for _ in range(5):
                assert (await world.client.get("/svids")).status_code == 200
            assert len(slow.asked) == 1, "the other one waits for its turn"
            slow.is_free.set()
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(story()) == [200, 200]
    assert threading.main_thread() not in slow.asked


def test_one_replay_or_suggestion_at_a_time_reads_the_records(tmp_path: Path) -> None:
    reading: list[str] = []
    is_free = threading.Event()

    def wait(*told: Any) -> None:
        if "FROM decision_minutes" in told[2]:
            reading.append(told[2])
            is_free.wait(10)

    async def story() -> list[int]:
        async with running(tmp_path) as world:
            since = {"since": await record(world, "/items/1")}
            draft = {"documents": to_yaml(document("orders", rules=[READ])), **since}
            sa.event.listen(world.state.engine, "before_cursor_execute", wait)
            asked = [
                asyncio.create_task(world.client.post("/authz/suggest", json=since)),
                asyncio.create_task(world.client.post("/authz/replay", json=draft)),
            ]
            async with asyncio.timeout(20):
                while not reading:
                    await asyncio.sleep(0.01)
            for _ in range(5):
                explained = await world.client.post("/authz/explain", json={"namespace": "shop"})
                assert explained.status_code == 200, "what reads no records need not wait"
            assert len(reading) == 1
            is_free.set()
            return [answer.status_code for answer in await asyncio.gather(*asked)]

    assert asyncio.run(story()) == [200, 200]


def test_a_draft_is_held_against_what_was_recorded(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            since = await record(world, "/items/1", "/other")
            before = world.state.policies.current.version
            draft = {"documents": to_yaml(document("orders", rules=[READ])), "since": since}
            replayed = await world.client.post("/authz/replay", json=draft)
            elsewhere = await world.client.post("/authz/replay", json=draft | {"namespace": "x"})
            broken = await world.client.post("/authz/replay", json=draft | {"documents": "kind: x"})
            assert world.state.policies.current.version == before
            return replayed.json(), elsewhere.json(), broken

    replayed, elsewhere, broken = asyncio.run(story())
    assert (replayed["distinct"], replayed["requests"], replayed["unchanged"]) == (2, 6, 1)
    assert [each["path"] for each in replayed["newly_denied"]] == ["/other"]
    assert replayed["lost"] == {"full": 2}
    assert elsewhere["distinct"] == 0
    assert error(broken)[0] == 400


def test_policies_are_suggested_from_what_was_recorded(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            since = await record(world, "/items/1", "/other")
            answer = await world.client.post("/authz/suggest", json={"since": since})
            assert not world.state.policies.current.policies
            return answer.json()

    (suggestion,) = asyncio.run(story())["suggestions"]
    assert (suggestion["namespace"], suggestion["name"]) == ("shop", "suggested-orders")
    assert suggestion["requests"] == 6
    assert '"paths": ["/items/1", "/other"]' in suggestion["document"]


def test_policies_are_held_against_who_exists(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            workload = Workload("shop", {"app": "orders"})
            world.proxies.proxies.append(replace(proxy(world.clock), workload=workload))
            await world.writer.submit(intent("a1", world.clock))
            spec = rule({"principals": ["example.org/ns/shop/sa/nobody", ORDERS[9:]]})
            documents = to_yaml(document("p", rules=[spec]), document("q", selector={"app": "x"}))
            await world.client.post("/policies", json={"documents": documents, "reason": "test"})
            return (await world.client.get("/authz/findings")).json()

    answer = asyncio.run(story())
    assert (answer["identities"], answer["workloads"]) == (1, 1)
    assert [(each["kind"], each["policy"]) for each in answer["findings"]] == [
        ("unknown_principal", "shop/p"),
        ("selects_nothing", "shop/q"),
    ]
