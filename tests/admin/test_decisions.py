"""Asking for decisions and reading those that were recorded, over the admin door."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authz.records.operation import Operation
from authz.records.tables import FullRecord, Gap, MinuteCount, Outcome
from authz.request import Http, Request
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId
from tests.admin.world import ORDERS, POLICY, World, error, running

FRONTEND = "spiffe://example.org/ns/shop/sa/frontend"
ASKED = {
    "id": "r1",
    "source": {"principal": FRONTEND},
    "destination": {"namespace": "shop", "labels": {"app": "orders"}},
    "http": {"method": "GET", "path": "/"},
}


async def record(world: World, *verdicts: str) -> None:
    """Record a decision in full, and seven of the same counted, for each of `verdicts`."""
    at = world.clock.now() - timedelta(minutes=5)
    minute = int(at.timestamp()) // 60 * 60
    for number, verdict in enumerate(verdicts):
        request = Request(
            SpiffeId.parse(FRONTEND), Workload("shop", {"app": "orders"}), 80, Http("GET", "/x?y")
        )
        operation = replace(Operation.of(request, ORDERS), path=f"/{number}")
        outcome = Outcome(verdict == "allow", "shop/p", 1)
        full = FullRecord(at, operation, outcome, "ext_authz", "because", details='{"a": 1}')
        counted = MinuteCount(minute, operation, outcome, 7 + number, at, at)
        await world.writer.submit(full, counted)


def answer_of(tmp_path: Path, body: Any) -> Any:
    """Return the response to a check."""

    async def story() -> Any:
        async with running(tmp_path) as world:
            applied = await world.client.post(
                "/policies", json={"documents": POLICY, "reason": "test"}
            )
            assert applied.status_code == 200, applied.text
            return await world.client.post("/authz/check", json=body)

    return asyncio.run(story())


def test_one_request_is_answered_as_it_is(tmp_path: Path) -> None:
    answer = answer_of(tmp_path, ASKED).json()
    assert (answer["id"], answer["verdict"], answer["policy"]) == (
        "r1",
        "allow",
        "shop/orders-readers",
    )
    assert set(answer) == {"id", "verdict", "policy", "rule", "reason", "shadow", "version"}


def test_many_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    answer = answer_of(tmp_path, {"requests": [ASKED, "no request", {**ASKED, "source": {}}]})
    assert [each["verdict"] for each in answer.json()["answers"]] == ["allow", "deny", "deny"]


@pytest.mark.parametrize(
    "body",
    [{"requests": 1}, {"requests": [], "id": 1}, [], "x"],
    ids=["one", "two", "list", "text"],
)
def test_what_is_neither_is_refused(body: Any, tmp_path: Path) -> None:
    assert error(answer_of(tmp_path, body))[0] == 400


def test_recorded_decisions_are_read_with_filters_in_pages(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            await record(world, "deny", "allow", "deny")
            first = await world.get("/decisions", verdict="deny", limit="1")
            assert [d["path"] for d in first["decisions"]] == ["/2"]
            second = await world.get("/decisions", verdict="deny", cursor=str(first["next"]))
            assert [d["path"] for d in second["decisions"]] == ["/0"]
            assert second["next"] is None
            (one,) = first["decisions"]
            assert (one["policy"], one["rule"], one["details"]) == ("shop/p", 1, {"a": 1})
            for name, value in {"source": "spiffe://x/y", "policy": "a/b"}.items():
                assert (await world.get("/decisions", **{name: value}))["decisions"] == []
            since = (world.clock.now() - timedelta(minutes=1)).isoformat()
            assert (await world.get("/decisions", since=since))["decisions"] == []
            assert len((await world.get("/decisions", destination="shop"))["decisions"]) == 3

    asyncio.run(story())


def test_the_summary_counts_what_was_decided_and_says_what_is_missing(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            await record(world, "deny", "allow")
            await world.writer.submit(Gap(world.clock.now(), world.clock.now(), "rate", 9))
            answer = await world.get("/decisions/summary")
            assert [(d["count"], d["verdict"]) for d in answer["decisions"]] == [
                (8, "allow"),
                (7, "deny"),
            ]
            assert (answer["requests"], answer["distinct"]) == (15, 2)
            assert answer["unrecorded"] == {"rate": 9}
            denied = await world.get("/decisions/summary", verdict="deny", destination=ORDERS)
            assert denied["distinct"] == 1

    asyncio.run(story())


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/decisions", {"verdicts": "deny"}),
        ("/decisions", {"verdict": "maybe"}),
        ("/decisions", {"limit": "0"}),
        ("/decisions", {"since": "2026-01-01T00:00:00"}),
        ("/decisions/summary", {"cursor": "1"}),
    ],
)
def test_a_filter_with_a_mistake_is_an_error(
    path: str, params: dict[str, str], tmp_path: Path
) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            return await world.client.get(path, params=params)

    assert error(asyncio.run(story()))[:2] == (400, "invalid_argument")
