"""Searching the audit log through the admin door: every filter, and every mistake by its name."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import fields
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from admin.audit_queries import CountQuery, EntryQuery, Following, FollowQuery
from audit.query import Filters, Query
from ca.store import Signed
from tests.admin.world import ORDERS, World, error, intent, running
from tests.audit.test_log import TIME, entry
from tests.stores import documents

KNOWN = 4
"""Entries that loading the authority makes, before ours."""


def run(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        async with running(directory) as world:
            await world.writer.submit(
                entry(1, serial="ab12", cluster="eu", namespace="shop", pod="orders-1"),
                entry(2, serial="", kind="refusal", outcome="refused", cluster="us"),
                entry(3, serial="cd34", cluster="us", namespace="bank"),
            )
            await story(world)

    asyncio.run(main())


def indexes(answer: Any) -> list[int]:
    return [each["index"] for each in answer["entries"]]


def test_entries_are_filtered_ordered_and_paged(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        first = await world.get("/audit/entries", cluster="us", limit="1")
        assert (indexes(first), first["next"]) == ([KNOWN + 2], KNOWN + 2)
        second = await world.get("/audit/entries", cluster="us", limit="1", cursor=first["next"])
        assert indexes(second) == [KNOWN + 1]
        both = await world.get("/audit/entries", cluster="us", order="oldest")
        assert (indexes(both), both["next"]) == ([KNOWN + 1, KNOWN + 2], None)
        assert both["size"] == KNOWN + 3 + 2  # and the reads before
        assert indexes(await world.get("/audit/entries", serial="00:AB:12")) == [KNOWN]
        assert indexes(await world.get("/audit/entries", text="ORDERS-1")) == [KNOWN]
        since = TIME.isoformat()
        assert len(indexes(await world.get("/audit/entries", since=since, kind="issuance"))) == 2

    run(tmp_path, story)


def test_a_fingerprint_finds_the_issuance_whose_entry_was_before_the_signature(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        fingerprint = sha256(b"the certificate").hexdigest()
        await world.writer.submit(intent("ab12", world.clock), Signed("ab12", b"the certificate"))
        revoked = entry(4, kind="revocation", serial="ab12", fingerprint=fingerprint)
        root = entry(5, kind="root_change", serial="ee", fingerprint="ee" * 32)
        await world.writer.submit(revoked, root)
        found = await world.get("/audit/entries", fingerprint=fingerprint)
        assert [each["kind"] for each in found["entries"]] == ["revocation", "issuance"]
        assert (await world.get("/audit/count", fingerprint=fingerprint))["count"] == 2
        other = await world.get("/audit/entries", fingerprint=fingerprint, serial="cd34")
        assert other["entries"] == []
        above = await world.get("/audit/entries", fingerprint="ee" * 32)
        assert [each["kind"] for each in above["entries"]] == ["root_change"]

    run(tmp_path, story)


def test_the_door_has_every_filter_that_a_query_has() -> None:
    known = {field.name for field in fields(Query)}
    assert set(EntryQuery.model_fields) == known - {"oldest_first"} | {"order"}
    assert set(CountQuery.model_fields) == known - {"oldest_first", "cursor"} | {"group_by"}
    assert set(FollowQuery.model_fields) == known - {"oldest_first", "limit", "until"}
    for name, type_ in get_type_hints(Filters).items():
        assert EntryQuery.model_fields[name].annotation == type_


MISTAKES = [
    ("entries", {"namspace": "shop"}, "unknown filter 'namspace'; known: since, kind, outcome"),
    ("entries", {"kind": "isuance"}, "unknown kind 'isuance'; known: issuance, refusal"),
    ("entries", {"namespace": ""}, "namespace is empty"),
    ("entries", {"serial": "xyz"}, "serial 'xyz' is not a hexadecimal number"),
    ("entries", {"since": "yesterday"}, "since"),
    ("entries", {"since": "2026-11-01T12:00:00"}, "since and until must say"),
    ("entries", {"limit": "0"}, "limit"),
    ("entries", {"order": "up"}, "'newest' or 'oldest'"),
    ("count", {"group_by": "color"}, "unknown group_by 'color'; known: kind, outcome, actor"),
    ("count", {"cursor": "1"}, "unknown filter 'cursor'"),
    ("follow", {"until": "2026-11-01T12:00:00Z"}, "unknown filter 'until'"),
    ("follow", {"kind": "isuance"}, "known: issuance, refusal"),
]


@pytest.mark.parametrize(("route", "filters", "message"), MISTAKES)
def test_a_mistake_is_named_with_what_would_be_none(
    tmp_path: Path, route: str, filters: dict[str, str], message: str
) -> None:
    async def story(world: World) -> None:
        response = await world.client.get(f"/audit/{route}", params=filters)
        assert error(response)[:2] == (400, "invalid_argument")
        assert message in json.dumps(response.json(), ensure_ascii=False)

    run(tmp_path, story)


def test_one_entry_is_shown_as_it_was_logged(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        shown = await world.get(f"/audit/entries/{KNOWN}")
        assert (shown["index"], shown["serial"], shown["spiffe_id"]) == (KNOWN, "ab12", ORDERS)
        assert len(shown["leaf_hash"]) == 64
        for missing in ("999", "-1", str(2**70)):
            response = await world.client.get(f"/audit/entries/{missing}")
            assert error(response) == (404, "not_found", f"the log has no entry {missing}")

    run(tmp_path, story)


def test_entries_are_counted_and_grouped(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        counted = await world.get("/audit/count", cluster="us")
        assert (counted["count"], counted["exact"], counted["groups"]) == (2, True, [])
        grouped = await world.get("/audit/count", group_by="cluster", kind="issuance", limit="1")
        assert grouped["groups"] == [{"value": "eu", "count": 1}]
        assert (grouped["count"], grouped["values"], grouped["group_by"]) == (2, 2, "cluster")

    run(tmp_path, story)


async def parsed(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    async for line in lines:
        yield json.loads(line)


async def until(lines: AsyncIterator[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return the next line that has `key`."""
    async with asyncio.timeout(30):
        async for line in lines:
            if key in line:
                return line
    raise AssertionError(f"the answer ended without {key}")


def test_following_tells_what_comes_and_ends_with_the_server(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        async with world.client.stream("GET", "/audit/follow?cluster=us") as response:
            lines = parsed(response.aiter_lines())
            assert "size" in await until(lines, "heartbeat")
            await world.writer.submit(entry(4, cluster="us"), entry(5, cluster="eu"))
            await world.writer.submit(entry(6, cluster="us"))
            told = [await until(lines, "index") for _ in range(2)]
            assert [each["serial"] for each in told] == ["4", "6"]
            world.state.stopping.set()
            end = await until(lines, "end")
            assert end == {"end": "the server is stopping", "next": told[-1]["index"]}
        reads = [d for d in documents(world.engine) if d["kind"] == "read"]
        assert [read["details"]["route"] for read in reads] == ["GET /v1/audit/follow"]

    run(tmp_path, story)


def test_following_begins_where_it_is_told(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for where in (f"cursor={KNOWN}", "since=2026-11-01T12:00:01%2B00:00"):
            query = f"/audit/follow?{where}&cluster=us"
            async with world.client.stream("GET", query) as response:
                lines = parsed(response.aiter_lines())
                told = [(await until(lines, "index"))["index"] for _ in range(2)]
                assert told == [KNOWN + 1, KNOWN + 2]

    run(tmp_path, story)


def test_following_gives_a_sign_of_life(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        following = await Following.begin(world.state, Query(cluster="none"))
        following.heartbeat_seconds = 0.0
        lines = following.lines()
        beats = [json.loads(await anext(lines)) for _ in range(3)]
        beat = {"heartbeat": "2026-11-01T12:00:00Z", "size": KNOWN + 3, "next": KNOWN + 2}
        assert beats == [beat] * 3

    run(tmp_path, story)


def test_following_that_has_to_search_says_how_far_it_is_and_goes_on(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        query = Query(text="nobody says this", since=datetime(2026, 1, 1, tzinfo=UTC))
        following = await Following.begin(world.state, query)
        following.heartbeat_seconds, following.maximum_read = 0.0, 1
        lines = following.lines()
        beats = [json.loads(await anext(lines)) for _ in range(4)]
        assert [beat["next"] for beat in beats] == [None, 0, 1, 2]

    run(tmp_path, story)
