"""Retention, legal holds and backup at the admin door."""

import asyncio
import io
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from admin.api import PREFIX
from admin.permissions import GRANTS, TABLE
from admin.roles import Role
from audit.backup.form import unpack
from audit.entry import Entry
from audit.log import Log
from tests.admin.world import World, running

ME = f"uid:{os.geteuid()}"
WHY = {"reason": "case 7"}


async def append(world: World, *entries: Entry) -> None:
    await world.writer.submit(*entries)


def read(world: World, **changes: Any) -> Entry:
    values = {"time": world.clock.now(), "kind": "read", "outcome": "done", "actor": "uid:7"}
    return Entry(**{**values, **changes})


def test_retention_says_the_rules_and_what_would_go_and_changes_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            await append(world, read(world), read(world, namespace="shop"))
            world.clock.advance(timedelta(days=91))
            placed = await world.client.post("/audit/holds", json={**WHY, "namespace": "shop"})
            assert placed.status_code == 200
            answer = await world.get("/audit/retention")
            assert answer["rules"]["read"] == "90d"
            assert answer["rules"]["redaction"] == "forever"
            assert (answer["due"], answer["held"], answer["live"]) == (
                {"read": 1},
                {"read": 1},
                {},
            )
            assert all(stored.body is not None for stored in Log(world.engine).entries())

    asyncio.run(story())


def test_a_hold_is_placed_listed_and_released_by_two(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            body = {
                **WHY,
                "reference": "2026-7",
                "kinds": ["read"],
                "since": "2026-01-01T00:00:00Z",
            }
            placed = (await world.client.post("/audit/holds", json=body)).json()
            assert placed["state"] == "in_force"
            assert placed["scope"] == {"kinds": ["read"], "since": "2026-01-01T00:00:00Z"}
            assert placed["placed"]["actor"] == ME
            assert (await world.get("/audit/holds"))["holds"] == [placed]
            path = f"/audit/holds/{placed['hold']}/release"
            asked = (await world.client.post(path, json=WHY)).json()
            assert (asked["state"], asked["release_asked"]["actor"]) == ("release_asked", ME)
            again = await world.client.post(path, json=WHY)
            assert again.status_code == 400
            assert "somebody else has to release" in again.json()["error"]["message"]
            await world.state.holds.release(placed["hold"], actor="uid:7", reason="settled")
            assert (await world.get("/audit/holds"))["holds"] == []
            (released,) = (await world.get("/audit/holds", all="true"))["holds"]
            assert (released["state"], released["released"]["actor"]) == ("released", "uid:7")
            assert (await world.client.post(path, json=WHY)).status_code == 409

    asyncio.run(story())


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"reason": " ", "everything": True},
        WHY,
        {**WHY, "everything": True, "cluster": "eu"},
        {**WHY, "kinds": ["reads"]},
        {**WHY, "spiffe_id": "orders"},
        {**WHY, "serial": "XY"},
        {**WHY, "namespace": ""},
        {**WHY, "since": "2026-01-01T00:00:00"},
        {**WHY, "since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {**WHY, "everything": True, "colour": "blue"},
    ],
)
def test_a_hold_that_is_none_is_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            response = await world.client.post("/audit/holds", json=body)
            assert response.status_code == 400, response.text
            assert (await world.get("/audit/holds"))["holds"] == []

    asyncio.run(story())


def test_a_hold_that_does_not_exist_is_not_found(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            response = await world.client.post("/audit/holds/hold-00000000/release", json=WHY)
            assert response.status_code == 404

    asyncio.run(story())


def test_a_backup_is_streamed_and_is_a_read_on_record(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            await append(world, *(read(world) for _ in range(3_000)))
            await world.state.signer.step()
            response = await world.client.get("/audit/backup")
            assert response.status_code == 200
            assert response.headers["content-type"] == "application/gzip"
            lines = await asyncio.to_thread(lambda: list(unpack(io.BytesIO(response.content))))
            assert sum(letter == b"E" for letter, _ in lines) >= 3_000
            last = list(Log(world.engine).entries())[-1].document() or {}
            assert (last["kind"], last["actor"]) == ("read", ME)
            assert last["details"]["route"] == "GET /v1/audit/backup"

    asyncio.run(story())


def test_without_a_checkpoint_there_is_no_backup(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            response = await world.client.get("/audit/backup")
            assert response.status_code == 503

    asyncio.run(story())


def test_nobody_but_an_administrator_says_what_is_kept_and_nobody_redacts() -> None:
    changing = [name for name in TABLE if name.startswith(f"POST {PREFIX}/audit/holds")]
    assert len(changing) == 2
    for name in changing:
        may = [role for role, granted in GRANTS.items() if TABLE[name].permission in granted]
        assert may == [Role.ADMIN]
    assert not [n for n in TABLE if n.startswith("POST") and "retention" in n]
