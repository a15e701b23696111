"""Authorities and roots through the API: shown with what they wait for, stepped with a reason."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ca.upstream import self_signed
from tests.admin.world import TRUST_DOMAIN, World, running

WHY = {"reason": "believed stolen"}


async def only(world: World) -> Any:
    (authority,) = (await world.get("/authorities"))["authorities"]
    return authority


def test_the_authority_is_shown_with_its_stage_and_what_it_waits_for(tmp_path: Path) -> None:
    async def story() -> tuple[Any, Any]:
        async with running(tmp_path) as world:
            return await world.get("/authorities"), await world.get("/roots")

    shown, roots = asyncio.run(story())
    (authority,) = shown["authorities"]
    assert shown["signing"] == authority["authority_id"]
    assert (authority["stage"], authority["replica"]) == ("active", "main")
    assert authority["waits_for"].startswith("its successor, to be prepared at 2026-11-0")
    (root,) = roots["roots"]
    assert (root["stage"], root["root_sha256"]) == ("trusted", authority["root_sha256"])
    assert (roots["successor"], roots["under_way"], roots["missing"]) == (None, False, [])


def test_each_step_is_audited_with_who_and_why(tmp_path: Path) -> None:
    async def story() -> tuple[str, str, Any, Any]:
        async with running(tmp_path) as world:
            first = (await only(world))["authority_id"]
            second = (await world.client.post("/authorities/prepare", json=WHY)).json()
            name = second["authority_id"]
            again = (await world.client.post("/authorities/prepare", json=WHY)).json()
            assert again == second
            done = await world.client.post(f"/authorities/{name}/activate", json=WHY)
            assert done.status_code == 200
            await world.client.post(f"/authorities/{first}/taint", json=WHY)
            shown = await world.get("/authorities")
            return first, name, shown, await world.get("/audit/entries", kind="authority_change")

    first, second, shown, entries = asyncio.run(story())
    assert shown["signing"] == second
    steps = [
        (e["details"]["authority"], e["details"]["stage"])
        for e in reversed(entries["entries"])
        if e["reason"] == "believed stolen"
    ]
    assert steps == [
        (second, "prepared"),
        (second, "active"),
        (first, "tainted"),
    ]
    actors = {e["actor"] for e in entries["entries"] if e["reason"] == "believed stolen"}
    assert all(actor.startswith("uid:") for actor in actors)


@pytest.mark.parametrize("step", ["activate", "taint", "revoke"])
def test_an_authority_that_is_not_known_is_not_found(step: str, tmp_path: Path) -> None:
    async def story() -> int:
        async with running(tmp_path) as world:
            path = f"/authorities/{'ab' * 20}/{step}"
            return (await world.client.post(path, json=WHY)).status_code

    assert asyncio.run(story()) == 404


def test_what_cannot_be_done_now_is_refused_with_what_it_waits_for(tmp_path: Path) -> None:
    async def story() -> tuple[Any, Any, Any]:
        async with running(tmp_path) as world:
            first = (await only(world))["authority_id"]
            revoked = await world.client.post(f"/authorities/{first}/revoke", json=WHY)
            replaced = await world.client.post("/roots/replace", json=WHY)
            silent = await world.client.post("/authorities/prepare", json={"reason": "  "})
            return revoked, replaced, silent

    revoked, replaced, silent = asyncio.run(story())
    assert (revoked.status_code, revoked.json()["error"]["code"]) == (409, "conflict")
    assert "no other root" in replaced.json()["error"]["message"]
    assert (replaced.status_code, silent.status_code) == (409, 400)


def test_a_root_is_replaced_and_the_phases_say_how_far_it_is(tmp_path: Path) -> None:
    async def story() -> tuple[Any, Any]:
        async with running(tmp_path) as world:
            self_signed.add_root(tmp_path, trust_domain=TRUST_DOMAIN, now=world.clock.now())
            answer = await world.client.post("/roots/replace", json=WHY)
            return answer.json(), await world.get("/roots")

    answer, roots = asyncio.run(story())
    assert answer["successor"] == roots["roots"][1]["root_sha256"]
    phases = {p["name"]: p["remaining"] for p in roots["phases"]}
    assert [r["stage"] for r in roots["roots"]] == ["retiring", "trusted"] or (
        [r["stage"] for r in roots["roots"]] == ["removed", "trusted"]
    )
    assert not phases or (phases["propagate"], phases["switch"]) == (0, 0)
