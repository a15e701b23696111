"""What the admin API shows: status, SVIDs, the bundle, proxies, the audit log."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from audit.entry import Entry
from ca.authority import Authorities
from tests.admin.world import (
    POLICY,
    TRUST_DOMAIN,
    World,
    error,
    intent,
    proxy,
    running,
    signed,
)

LOADED = 4
"""Entries that loading the authority makes: the root, prepared, published, active."""


def test_status_is_the_whole_on_one_screen(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            world.proxies.proxies = [proxy(world.clock), proxy(world.clock, nacks=2)]
            return await world.get("/status"), world

    status, world = asyncio.run(story())
    authority = world.state.authorities.active(world.clock.now())
    assert status["ready"] is True
    assert status["trust_domain"] == TRUST_DOMAIN
    assert status["time"] == "2026-11-01T12:00:00Z"
    assert status["authority"]["id"] == authority.authority_id
    assert status["authority"]["chain"][0]["id"] == authority.authority_id
    assert len(status["roots"]) == 1
    assert status["proxies"] == {"connected": 2, "behind": 0, "nacks": 2}
    assert status["policies"]["default"] == "deny"
    assert status["audit"]["size"] == LOADED


def test_status_says_why_it_is_not_ready(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path, authorities=Authorities(TRUST_DOMAIN)) as world:
            world.problems = ["no authority is loaded yet"]
            return await world.get("/status")

    status = asyncio.run(story())
    assert (status["ready"], status["problems"]) == (False, ["no authority is loaded yet"])
    assert (status["authority"], status["roots"]) == (None, [])


def test_status_shows_policies_that_do_not_load_and_what_stays(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    file = tmp_path / "policies" / "p.yaml"
    file.write_text(POLICY)

    async def story() -> Any:
        async with running(tmp_path, policy_directory=file.parent) as world:
            policies = world.state.loader
            before = await world.get("/status")
            file.write_text(POLICY.replace("ALLOW", "ALOW"))
            await policies.reload()
            after = await world.get("/status")
            file.write_text(POLICY)
            await policies.reload()
            return before, after, await world.get("/status")

    before, after, fixed = asyncio.run(story())
    assert (before["policies"]["policies"], before["policies"]["problems"]) == (1, [])
    assert after["policies"]["version"] == before["policies"]["version"]
    assert f"{file}:6: spec.action" in after["policies"]["problems"][0]
    assert fixed["policies"]["problems"] == []


async def _inventory(world: World) -> None:
    await world.writer.submit(intent("a1", world.clock), intent("b2", world.clock, cluster="eu"))
    await world.writer.submit(intent("c3", world.clock, namespace="bank"))
    await world.writer.submit(signed("a1", world.state))


def test_svids_are_listed_newest_first_filtered_and_paged(tmp_path: Path) -> None:
    async def story() -> list[Any]:
        async with running(tmp_path) as world:
            await _inventory(world)
            page = await world.get("/svids", limit="2")
            return [
                page,
                await world.get("/svids", limit="2", cursor=str(page["next"])),
                await world.get("/svids", cluster="eu"),
                await world.get("/svids", namespace="bank"),
                await world.get("/svids", spiffe_id="spiffe://example.org/other"),
            ]

    first, second, cluster, namespace, other = asyncio.run(story())
    serials = [[svid["serial"] for svid in page["svids"]] for page in (first, second, cluster)]
    assert serials == [["c3", "b2"], ["a1"], ["b2"]]
    assert [svid["serial"] for svid in namespace["svids"]] == ["c3"]
    assert (second["next"], other["svids"]) == (None, [])


def test_live_leaves_out_what_has_expired(tmp_path: Path) -> None:
    async def story() -> tuple[Any, Any]:
        async with running(tmp_path) as world:
            await _inventory(world)
            now = await world.get("/svids", live="true")
            world.clock.advance(timedelta(hours=2))
            return now, await world.get("/svids", live="true")

    now, later = asyncio.run(story())
    assert (len(now["svids"]), later["svids"]) == (3, [])


def test_one_svid_is_shown_with_its_pem_and_evidence(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            await _inventory(world)
            shown = await world.get("/svids/00:A1")
            missing = await world.client.get("/svids/ff")
            unsigned = await world.get("/svids/b2")
            return shown, missing, unsigned

    shown, missing, unsigned = asyncio.run(story())
    assert shown["status"] == "issued"
    assert shown["method"] == "kubernetes_jwks"
    assert shown["pem"].startswith("-----BEGIN CERTIFICATE-----")
    assert (unsigned["status"], unsigned["pem"]) == ("intent", None)
    assert error(missing)[:2] == (404, "not_found")


def test_the_bundle_comes_as_pem_and_as_spiffe_has_it(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            pem = await world.client.get("/bundle")
            document = await world.get("/bundle", format="spiffe")
            return pem.text, document, await world.client.get("/bundle?format=der"), world

    pem, document, unknown, world = asyncio.run(story())
    assert pem.encode() == world.state.authorities.bundle.pem()
    assert document["keys"][0]["use"] == "x509-svid"
    assert error(unknown)[:2] == (400, "invalid_argument")


def test_proxies_that_lack_something_can_be_asked_for(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            current = proxy(world.clock, pod="current")
            (resource,) = current.resources
            refused = replace(resource, pushed_version="v2", nack="bad", nacked_at=None)
            world.proxies.proxies = [
                current,
                replace(current, pod="behind", resources=(refused,), unanswered=("other",)),
            ]
            return await world.get("/proxies"), await world.get("/proxies", behind="true")

    everyone, behind = asyncio.run(story())
    assert [p["pod"] for p in everyone["proxies"]] == ["current", "behind"]
    (only,) = behind["proxies"]
    assert (only["pod"], only["unanswered"]) == ("behind", ["other"])
    assert only["resources"][0]["nack"] == "bad"
    assert only["resources"][0]["behind"] is True


def test_audit_entries_are_found_and_the_log_verified(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            now = world.clock.now()
            for number in range(3):
                await world.writer.submit(
                    Entry(time=now + timedelta(minutes=number), kind="issuance", outcome="done")
                )
            found = await world.get("/audit/entries", since="2026-11-01T12:01:00Z", limit="1")
            verified = await world.get("/audit/verify")
            with world.engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM audit_entries WHERE leaf_index = 1")
            return found, verified, await world.get("/audit/verify")

    found, verified, broken = asyncio.run(story())
    assert [entry["index"] for entry in found["entries"]] == [2 + LOADED]
    assert found["next"] == 2 + LOADED
    and_more = 2  # the read, and the key of the log
    assert (verified["intact"], verified["entries"]) == (True, 3 + and_more + LOADED)
    assert len(verified["root"]) == 64
    assert (broken["intact"], broken["first_broken"]) == (False, 1)
