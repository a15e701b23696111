"""The admin API: what it answers, what it refuses, and that each change is audited."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from audit.entry import Entry
from authz.policy import PolicySet
from authz.state import PolicyState
from ca.authority import Authorities
from tests.admin.world import (
    ORDERS,
    POLICY,
    TRUST_DOMAIN,
    World,
    intent,
    proxy,
    running,
    signed,
)


def error(response: Any) -> tuple[int, str, str]:
    body = response.json()["error"]
    assert set(body) == {"code", "message", "problems"}
    return response.status_code, body["code"], body["message"]


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
    assert status["audit"]["sequence"] == LOADED


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
                connection.exec_driver_sql("DELETE FROM audit_entries WHERE sequence = 2")
            return found, verified, await world.get("/audit/verify")

    found, verified, broken = asyncio.run(story())
    assert [entry["sequence"] for entry in found["entries"]] == [3 + LOADED]
    assert found["next"] == 3 + LOADED
    assert (verified["intact"], verified["entries"]) == (True, 3 + LOADED)
    assert verified["hash"] == found["entries"][0]["hash"]
    assert (broken["intact"], broken["first_broken"]) == (False, 2)


BAD = [
    ("unknown parameter", "/svids?naemspace=shop", "naemspace"),
    ("limit", "/svids?limit=0", "limit"),
    ("time", "/audit/entries?since=yesterday", "since"),
    ("order", "/audit/entries?order=random", "order"),
    ("boolean", "/proxies?behind=perhaps", "behind"),
]


@pytest.mark.parametrize(("name", "path", "key"), BAD, ids=[c[0] for c in BAD])
def test_a_bad_parameter_is_an_error_that_names_it(
    tmp_path: Path, name: str, path: str, key: str
) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            return await world.client.get(path)

    response = asyncio.run(story())
    assert error(response)[:2] == (400, "invalid_argument")
    assert [problem["path"] for problem in response.json()["error"]["problems"]] == [key]


def test_an_unknown_kind_names_the_known(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            return await world.client.get("/audit/entries?kind=isuance")

    status, code, message = error(asyncio.run(story()))
    assert (status, code) == (400, "invalid_argument")
    assert "issuance, refusal" in message


def test_policies_are_applied_whole_and_audited_with_who_and_why(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            body = {"documents": POLICY, "reason": " INC-12 "}
            applied = await world.client.post("/policies", json=body)
            return (
                applied.json(),
                await world.get("/policies"),
                await world.get("/policies/applied/1"),
                (await world.get("/audit/entries", kind="policy_change"))["entries"],
                world.state.policies.current,
            )

    applied, listed, kept, entries, current = asyncio.run(story())
    assert applied["added"] == ["shop/orders-readers"]
    assert applied["version"] == listed["version"] == current.version
    assert listed["policies"][0]["selector"] == {"app": "orders"}
    assert listed["applied"]["documents"] == kept["documents"] == POLICY
    (entry,) = entries
    assert (entry["kind"], entry["outcome"], entry["reason"]) == ("policy_change", "done", "INC-12")
    assert entry["actor"].startswith("uid:")
    assert entry["details"]["added"] == ["shop/orders-readers"]
    assert entry["details"]["applied_version"] == 1


def test_a_set_with_mistakes_changes_nothing_and_names_each(tmp_path: Path) -> None:
    text = POLICY.replace("action: ALLOW", "action: ALOW") + "---\n" + POLICY.replace("to:", "too:")

    async def story() -> Any:
        async with running(tmp_path) as world:
            response = await world.client.post("/policies", json={"documents": text, "reason": "x"})
            return (
                response,
                await world.get("/policies"),
                await world.get("/audit/entries", kind="policy_change"),
            )

    response, listed, entries = asyncio.run(story())
    assert error(response)[:2] == (400, "invalid_document")
    problems = response.json()["error"]["problems"]
    assert {(p["path"], p["line"]) for p in problems} >= {("spec.action", 6)}
    assert len(problems) >= 2
    assert (listed["policies"], entries["entries"]) == ([], [])


def test_policies_that_cannot_be_recorded_are_not_in_force(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            with world.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE audit_entries RENAME TO away")
            response = await world.client.post(
                "/policies", json={"documents": POLICY, "reason": "x"}
            )
            return response, await world.get("/policies")

    response, listed = asyncio.run(story())
    assert error(response)[:2] == (503, "unavailable")
    assert (listed["policies"], listed["applied"]) == ([], None)


@pytest.mark.parametrize("reason", ["", "   ", None])
def test_a_change_needs_a_reason(tmp_path: Path, reason: str | None) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            return await world.client.post(
                "/policies", json={"documents": POLICY, "reason": reason}
            )

    response = asyncio.run(story())
    assert error(response)[:2] == (400, "invalid_argument")
    assert [p["path"] for p in response.json()["error"]["problems"]] == ["reason"]


def test_requests_are_decided_by_the_set_in_force(tmp_path: Path) -> None:
    request = {
        "id": 7,
        "source": {"principal": "spiffe://example.org/ns/shop/sa/frontend"},
        "destination": {"namespace": "shop", "labels": {"app": "orders"}},
        "http": {"method": "GET", "path": "/"},
    }

    async def story() -> Any:
        async with running(tmp_path) as world:
            before = await world.client.post("/authz/check", json={"requests": [request]})
            await world.client.post("/policies", json={"documents": POLICY, "reason": "x"})
            after = await world.client.post("/authz/check", json={"requests": [request, "x"]})
            return before.json(), after.json()

    before, after = asyncio.run(story())
    assert [a["verdict"] for a in before["answers"]] == ["deny"]
    assert [(a["id"], a["verdict"]) for a in after["answers"]] == [(7, "allow"), (None, "deny")]
    assert after["answers"][0]["policy"] == "shop/orders-readers"


def test_a_renewal_is_done_and_audited(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            done = await world.client.post("/svids/renew", json={"spiffe_id": ORDERS})
            nobody = await world.client.post("/svids/renew", json={"spiffe_id": ORDERS + "x"})
            bad = await world.client.post("/svids/renew", json={"spiffe_id": "orders"})
            return (
                done.json(),
                nobody.json(),
                bad,
                await world.get("/audit/entries", kind="renewal"),
            )

    done, nobody, bad, entries = asyncio.run(story())
    assert (done["renewed"], nobody["renewed"]) == (1, 0)
    assert error(bad)[:2] == (400, "invalid_argument")
    assert [(e["kind"], e["spiffe_id"]) for e in entries["entries"]] == [("renewal", ORDERS)]


def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            huge = {"documents": "x" * (4 * 1024 * 1024 + 1), "reason": "x"}
            return await world.client.post("/policies", json=huge)

    assert error(asyncio.run(story()))[:2] == (413, "too_large")


def test_what_is_not_there_is_said_in_the_same_shape(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            return await world.client.get("/nothing"), await world.client.delete("/policies")

    unknown, method = asyncio.run(story())
    assert error(unknown)[:2] == (404, "not_found")
    assert error(method)[0] == 405


def test_our_own_fault_leaks_nothing_and_can_be_found_in_the_log(tmp_path: Path) -> None:
    class Broken:
        def connected(self) -> list[Any]:
            raise RuntimeError("the secret is hunter2")

    async def story() -> Any:
        async with running(tmp_path, proxies=Broken()) as world:
            return await world.client.get("/proxies")

    with capture_logs() as logged:
        status, code, message = error(asyncio.run(story()))
    assert (status, code) == (500, "internal")
    assert "hunter2" not in message
    (failure,) = [line for line in logged if line["event"] == "request_failed"]
    assert message.endswith(failure["request_id"])


def test_a_database_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            with world.engine.begin() as connection:
                connection.exec_driver_sql("DROP TABLE certificates")
            return await world.client.get("/svids")

    assert error(asyncio.run(story()))[:2] == (503, "unavailable")


def test_other_users_are_refused_whatever_they_claim(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path, admitted_uids=frozenset({4_000_000})) as world:
            claims = {"X-Remote-User": "root", "X-Forwarded-For": "127.0.0.1"}
            return await world.client.get("/status", headers=claims)

    assert error(asyncio.run(story()))[:2] == (403, "permission_denied")


def test_the_policies_of_the_state_are_the_ones_decided_by(tmp_path: Path) -> None:
    open_set = PolicySet.of((), trust_domain=TRUST_DOMAIN, root_namespace="meshca", default="allow")
    state = PolicyState(open_set)

    async def story() -> Any:
        async with running(tmp_path, policies=state) as world:
            request = {"destination": {"namespace": "shop"}}
            answer = await world.client.post("/authz/check", json={"requests": [request]})
            return answer.json()["answers"][0]["verdict"]

    assert asyncio.run(story()) == "allow"
