"""Federation through the admin door: what an operator can do, and what is refused."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshca.errors import Unavailable
from tests.admin.world import World, running
from tests.builders import make_pki
from tests.ca.endpoints import ENDPOINT_ID, PARTNER, document

THEIRS = make_pki(trust_domain=PARTNER, number=2)
NEW: dict[str, Any] = {
    "trust_domain": PARTNER,
    "url": "https://mesh.partner.test/bundle.json",
    "profile": "https_web",
    "reason": "CHG-7",
}


def run(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def within() -> None:
        async with running(directory) as world:
            world.endpoints.answers[PARTNER] = document(THEIRS, 5)
            await story(world)

    asyncio.run(within())


def test_a_domain_is_added_listed_refreshed_and_removed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        added = (await world.client.post("/federation", json=NEW)).json()
        (listed,) = (await world.get("/federation"))["trust_domains"]
        refreshed = (await world.client.post(f"/federation/{PARTNER}/refresh", json={})).json()
        removed = await world.client.post(f"/federation/{PARTNER}/remove", json={"reason": "x"})

        assert (added["sequence"], added["stale"], added["last_error"]) == (5, False, "")
        assert [root["subject"] for root in added["roots"]] == [
            THEIRS.root.subject.rfc4514_string()
        ]
        assert listed["trust_domain"] == refreshed["trust_domain"] == PARTNER
        assert removed.json() == {"trust_domain": PARTNER, "removed": True}
        assert (await world.get("/federation"))["trust_domains"] == []
        entries = await world.get("/audit/entries", kind="federation_change")
        who = {(entry["actor"], entry["reason"]) for entry in entries["entries"]}
        assert {("uid:0", "CHG-7"), ("uid:0", "x")} <= who

    run(tmp_path, story)


def test_a_refresh_shows_the_domain_and_is_recorded_also_when_nothing_changed(
    tmp_path: Path,
) -> None:
    async def story(world: World) -> None:
        await world.client.post("/federation", json=NEW)
        for _ in range(2):
            await world.client.post(f"/federation/{PARTNER}/refresh", json={})
        reads = [
            (read["actor"], read["details"]["parameters"])
            for read in (await world.get("/audit/entries", kind="read"))["entries"]
            if read["details"]["route"] == "POST /v1/federation/{trust_domain}/refresh"
        ]
        assert reads == [("uid:0", {"trust_domain": PARTNER})] * 2

    run(tmp_path, story)


def test_a_domain_whose_endpoint_is_down_is_added_and_says_so(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        world.endpoints.answers[PARTNER] = Unavailable("nobody there")
        seed = THEIRS.root.public_bytes(Encoding.PEM).decode()
        spiffe = {"profile": "https_spiffe", "endpoint_id": ENDPOINT_ID, "bundle": seed}
        response = await world.client.post("/federation", json={**NEW, **spiffe})

        assert response.status_code == 200
        assert response.json()["last_error"] == "nobody there"
        assert len(response.json()["roots"]) == 1

    run(tmp_path, story)


def test_status_says_which_bundle_is_stale(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        await world.client.post("/federation", json=NEW)
        assert (await world.get("/status"))["federation"] == {"trust_domains": 1, "stale": []}
        world.clock.advance(timedelta(minutes=16))
        assert (await world.get("/status"))["federation"]["stale"] == [PARTNER]

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("", {**NEW, "reason": " "}, 400),
        ("", {**NEW, "profile": "http"}, 400),
        ("", {**NEW, "url": "http://x/"}, 400),
        ("", {**NEW, "trust_domain": "example.org"}, 400),
        ("", {**NEW, "bundle": "x" * 300_000}, 400),
        ("", {**NEW, "colour": "blue"}, 400),
        (f"/{PARTNER}/remove", {"reason": "x"}, 404),
        (f"/{PARTNER}/remove", {}, 400),
        (f"/{PARTNER}/refresh", {}, 404),
    ],
    ids=[
        "no reason", "profile", "plain HTTP", "ourselves", "a huge bundle", "unknown key",
        "remove an unknown domain", "remove without a reason", "refresh an unknown domain",
    ],
)  # fmt: skip
def test_refuses(tmp_path: Path, path: str, body: dict[str, Any], status: int) -> None:
    async def story(world: World) -> None:
        response = await world.client.post(f"/federation{path}", json=body)

        assert response.status_code == status, response.text
        assert world.endpoints.asked == []

    run(tmp_path, story)
