"""What was recorded is read again: distinct requests with counts, denials, differences, gaps."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from authz.records.decisions import DecisionQuery, Decisions, beginning_of_minute
from authz.records.operation import OTHER, Operation
from authz.records.tables import FullRecord, Gap, MinuteCount, Outcome
from authz.request import Http, Request
from authz.workload import Workload
from meshca.database import open_engine
from meshca.errors import RequestRefused
from meshca.schema import migrate
from meshca.spiffe_id import SpiffeId
from tests.fakes import FakeClock
from tests.stores import postgresql, sqlite_engine, writer_of

NOW = FakeClock().now()
WEB = SpiffeId.parse("spiffe://example.org/ns/shop/sa/web")
ORDERS = "spiffe://example.org/ns/shop/sa/orders"


@contextmanager
def engine_of(kind: str, directory: Path) -> Iterator[sa.Engine]:
    if kind == "sqlite":
        with sqlite_engine(directory) as engine:
            yield engine
        return
    with postgresql() as server:
        engine = open_engine(server.url)
        try:
            migrate(engine)
            yield engine
        finally:
            engine.dispose()


def write(engine: sa.Engine, *records: Any) -> None:
    async def story() -> None:
        async with writer_of(engine) as writer:
            await writer.submit(*records)

    asyncio.run(story())


def operation(path: str | None = "/items", **changes: Any) -> Operation:
    http = None if path is None else Http("GET", path, "Shop.example")
    request = Request(WEB, Workload("shop", {"app": "orders"}), port=8080, http=http)
    return replace(Operation.of(request, ORDERS), **changes)


def minute(count: int, *, ago: int = 0, of: Operation | None = None, deny: bool = False) -> Any:
    at = NOW - timedelta(minutes=ago)
    outcome = Outcome(not deny, "" if deny else "shop/orders", None if deny else 0)
    return MinuteCount(beginning_of_minute(at), of or operation(), outcome, count, at, at)


def full(ago: int = 0, *, allowed: bool = False, **changes: Any) -> FullRecord:
    at = NOW - timedelta(minutes=ago)
    outcome = Outcome(allowed, "shop/no-admin", 0)
    record = FullRecord(at, operation(), outcome, "access_log", "because", source_ip="10.0.0.1")
    return replace(record, **changes)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_counts_of_minutes_add_up_to_distinct_requests(kind: str, tmp_path: Path) -> None:
    tcp = operation(None, port=5432)
    with engine_of(kind, tmp_path) as engine:
        write(engine, minute(3, ago=10), minute(4, ago=2), minute(1, deny=True), minute(5, of=tcp))
        write(engine, minute(100, ago=500))
        found = list(Decisions(engine).distinct(NOW - timedelta(hours=1)))
    by = {(each.protocol, each.allowed): each for each in found}
    assert len(found) == 3
    allowed = by["http", True]
    assert (allowed.count, allowed.first, allowed.last) == (
        7,
        NOW - timedelta(minutes=10),
        NOW - timedelta(minutes=2),
    )
    assert allowed.outcome == Outcome(True, "shop/orders", 0)
    assert by["http", False].count == 1
    assert by["tcp", True].request() == Request(
        WEB, Workload("shop", {"app": "orders"}), port=5432, http=None
    )


def test_a_distinct_request_is_the_one_that_was_made(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        write(engine, minute(1, of=operation("/items?token=secret")))
        (found,) = Decisions(engine).distinct(NOW)
    assert found.request().http == Http("GET", "/items", "shop.example")
    assert (found.labels, found.host, found.is_whole) == ({"app": "orders"}, "shop.example", True)


def test_what_was_folded_is_unknown_not_a_path(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        write(engine, minute(9, of=operation().folded()))
        (found,) = Decisions(engine).distinct(NOW)
    assert (found.path, found.is_whole) == (OTHER, False)
    assert found.request().http == Http("GET", None, None)


def test_distinct_keeps_to_time_namespace_and_source(tmp_path: Path) -> None:
    elsewhere = operation(namespace="bank", source="")
    with sqlite_engine(tmp_path) as engine:
        write(engine, minute(1), minute(2, of=elsewhere), minute(4, ago=30))
        decisions = Decisions(engine)
        counts = [
            [d.count for d in decisions.distinct(NOW, namespace="bank")],
            [d.count for d in decisions.distinct(NOW, source=str(WEB))],
            [d.count for d in decisions.distinct(NOW - timedelta(hours=1), namespace="shop")],
            [
                d.count
                for d in decisions.distinct(
                    NOW - timedelta(hours=1), until=NOW - timedelta(minutes=29)
                )
            ],
        ]
    assert counts == [[2], [1], [5], [4]]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_denials_and_differences_are_read_newest_first(kind: str, tmp_path: Path) -> None:
    differs = full(3, allowed=True, shadow="deny", details='{"set": "v1"}')
    with engine_of(kind, tmp_path) as engine:
        write(engine, full(9), full(5, reason="later"), differs)
        decisions = Decisions(engine)
        since = NOW - timedelta(hours=1)
        assert [d.reason for d in decisions.denials(since)] == ["later", "because"]
        (shadowed,) = decisions.shadow_differences(since)
        assert decisions.denials(NOW - timedelta(minutes=1)) == []
        assert decisions.denials(since, namespace="bank") == []
    assert (shadowed.outcome.allowed, shadowed.shadow) == (True, "deny")
    assert shadowed.details == {"set": "v1"}
    assert (shadowed.at, shadowed.source_ip) == (NOW - timedelta(minutes=3), "10.0.0.1")


def test_pages_of_decisions_join_without_gap_or_overlap(tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        write(engine, *(full(reason=str(number)) for number in range(5)))
        decisions, cursor, seen = Decisions(engine), None, []
        while page := decisions.find(DecisionQuery(limit=2, cursor=cursor)):
            seen += [d.reason for d in page]
            cursor = page[-1].number
    assert seen == ["4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    ("filters", "hits"),
    [
        ({"verdict": "deny"}, 1),
        ({"verdict": "allow"}, 1),
        ({"policy": "shop/other"}, 1),
        ({"source": str(WEB)}, 2),
        ({"source": "spiffe://example.org/x"}, 0),
        ({"destination": ORDERS}, 2),
        ({"destination": "shop"}, 2),
        ({"destination": "spiffe://example.org/shop"}, 0),
    ],
)
def test_a_filter_finds_what_it_names(filters: dict[str, str], hits: int, tmp_path: Path) -> None:
    with sqlite_engine(tmp_path) as engine:
        write(engine, full(), full(allowed=True, outcome=Outcome(True, "shop/other", 1)))
        assert len(Decisions(engine).find(DecisionQuery(**filters))) == hits  # type: ignore[arg-type]  # each filter is a text


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"verdict": "maybe"}, "unknown_verdict"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
    ],
)
def test_a_query_that_means_nothing_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        DecisionQuery(**wrong)
    assert refused.value.reason == reason


def test_what_was_lost_is_told_by_reason(tmp_path: Path) -> None:
    ago = NOW - timedelta(days=2)
    with sqlite_engine(tmp_path) as engine:
        write(engine, Gap(NOW, NOW, "rate", 5), Gap(NOW, NOW, "rate", 2), Gap(ago, ago, "rate", 90))
        assert Decisions(engine).lost(NOW - timedelta(days=1)) == {"rate": 7}


@pytest.mark.parametrize("text", ["/\x00", "/\ud800", "/" + "a" * 4000, "/ü?password=x"], ids=ascii)
def test_no_text_of_a_caller_spoils_a_record(text: str, tmp_path: Path) -> None:
    hostile = Http(text, text, text)
    request = Request(WEB, Workload("shop"), port=1, http=hostile)
    with sqlite_engine(tmp_path) as engine:
        write(engine, minute(1, of=Operation.of(request, ORDERS)))
        (found,) = Decisions(engine).distinct(NOW)
    assert found.path is not None
    assert len(found.path) <= 513
    assert "password" not in found.path
