"""What the admin API changes: policies and renewals, each audited with who and why."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from authz.policy import PolicySet
from authz.state import PolicyState
from tests.admin.world import (
    ORDERS,
    POLICY,
    TRUST_DOMAIN,
    error,
    running,
)


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


def test_the_policies_of_the_state_are_the_ones_decided_by(tmp_path: Path) -> None:
    open_set = PolicySet.of((), trust_domain=TRUST_DOMAIN, root_namespace="meshca", default="allow")
    state = PolicyState(open_set)

    async def story() -> Any:
        async with running(tmp_path, policies=state) as world:
            request = {"destination": {"namespace": "shop"}}
            answer = await world.client.post("/authz/check", json={"requests": [request]})
            return answer.json()["answers"][0]["verdict"]

    assert asyncio.run(story()) == "allow"
