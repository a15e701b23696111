"""Policies over the admin API: applied, deleted, rolled back, each audited with who and why."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from authz.policy import PolicySet
from authz.state import PolicyState
from tests.admin.world import POLICY, TRUST_DOMAIN, World, error, running

OTHER = POLICY.replace("orders-readers", "others")


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
            with world.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE away RENAME TO audit_entries")
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


def test_the_policies_of_the_state_are_the_ones_decided_by(tmp_path: Path) -> None:
    open_set = PolicySet.of((), trust_domain=TRUST_DOMAIN, root_namespace="meshca", default="allow")
    state = PolicyState(open_set)

    async def story() -> Any:
        async with running(tmp_path, policies=state) as world:
            request = {"destination": {"namespace": "shop"}}
            answer = await world.client.post("/authz/check", json={"requests": [request]})
            return answer.json()["answers"][0]["verdict"]

    assert asyncio.run(story()) == "allow"


async def post(world: World, path: str = "", **body: Any) -> Any:
    """Return the answer to a change, which must be taken."""
    response = await world.client.post(f"/policies{path}", json={"reason": "INC-1", **body})
    assert response.status_code == 200, response.text
    return response.json()


async def names(world: World) -> list[str]:
    return [policy["name"] for policy in (await world.get("/policies"))["policies"]]


def test_single_policies_are_deleted_and_the_set_may_become_empty(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            await post(world, documents=POLICY + "---\n" + OTHER)
            first = await post(world, "/delete", names=["shop/others"])
            left = await names(world)
            second = await post(world, "/delete", names=["AuthorizationPolicy/shop/orders-readers"])
            entries = await world.get("/audit/entries", kind="policy_change")
            return first, left, second, await names(world), entries["entries"]

    first, left, second, nothing, entries = asyncio.run(story())
    assert (first["removed"], first["applied_version"], left) == (
        ["shop/others"],
        2,
        ["orders-readers"],
    )
    assert (second["removed"], nothing) == (["shop/orders-readers"], [])
    assert "-metadata: {name: orders-readers, namespace: shop}" in entries[0]["details"]["diff"]


def test_an_empty_set_is_applied_only_when_it_is_meant(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            await post(world, documents=POLICY)
            body = {"documents": "# nothing", "reason": "x"}
            refused = await world.client.post("/policies", json=body)
            before = await names(world)
            await post(world, documents="# nothing", empty=True)
            return refused, before, await names(world)

    refused, before, after = asyncio.run(story())
    assert error(refused)[:2] == (400, "invalid_document")
    assert (before, after) == (["orders-readers"], [])


def test_any_version_is_brought_back_as_a_new_one(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            await post(world, documents=POLICY)
            await post(world, documents=OTHER)
            back = await post(world, "/rollback", version=1)
            page = await world.get("/policies/applied", limit="2")
            rest = await world.get("/policies/applied", before=str(page["next"]))
            return back, await names(world), page, rest

    back, in_force, page, rest = asyncio.run(story())
    assert (back["applied_version"], in_force) == (3, ["orders-readers"])
    assert [version["version"] for version in page["versions"]] == [3, 2]
    assert page["versions"][0]["author"].startswith("uid:")
    assert ([version["version"] for version in rest["versions"]], rest["next"]) == ([1], None)


def test_a_dry_run_says_what_would_change_and_records_nothing(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            await post(world, documents=POLICY)
            changed = POLICY.replace("[GET]", "[GET, HEAD]")
            told = await post(world, documents=changed, dry_run=True)
            deleted = await post(world, "/delete", names=["shop/orders-readers"], dry_run=True)
            entries = await world.get("/audit/entries", kind="policy_change")
            return told, deleted, await world.get("/policies"), entries["entries"]

    told, deleted, listed, entries = asyncio.run(story())
    assert (told["recorded"], told["changed"]) == (False, ["shop/orders-readers"])
    assert "+        - operation: {methods: [GET, HEAD]}" in told["diff"]
    assert deleted["removed"] == ["shop/orders-readers"]
    assert (listed["applied"]["version"], len(entries)) == (1, 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"documents": OTHER}),
        ("/delete", {"names": ["shop/orders-readers"]}),
        ("/rollback", {"version": 1}),
    ],
    ids=["apply", "delete", "rollback"],
)
def test_a_change_of_another_version_than_expected_is_a_conflict(
    tmp_path: Path, path: str, body: dict[str, Any]
) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            await post(world, documents=POLICY)
            await post(world, documents=POLICY.replace("ALLOW", "DENY"), expect_version=1)
            late = {**body, "reason": "x", "expect_version": 1}
            response = await world.client.post(f"/policies{path}", json=late)
            return response, await world.get("/policies")

    response, listed = asyncio.run(story())
    assert error(response)[:2] == (409, "conflict")
    assert "version 2 by now, not 1" in error(response)[2]
    assert listed["applied"]["version"] == 2


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/delete", {"names": ["shop/nobody"]}, 404, "the applied set holds no shop/nobody"),
        ("/rollback", {"version": 7}, 404, "no policy set with version 7"),
        ("/delete", {"names": ["shop"]}, 400, ""),
        ("/delete", {"names": []}, 400, ""),
    ],
    ids=["no such policy", "no such version", "no namespace", "no names"],
)
def test_what_is_not_there_is_refused(
    tmp_path: Path, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            await post(world, documents=POLICY)
            return await world.client.post(f"/policies{path}", json={**body, "reason": "x"})

    response = asyncio.run(story())
    assert error(response)[0] == status
    assert message in error(response)[2]


def test_says_where_policies_come_from_and_what_does_not_load(tmp_path: Path) -> None:
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "a.yaml").write_text(POLICY)

    async def story() -> Any:
        async with running(tmp_path, policy_directory=directory) as world:
            (directory / "b.yaml").write_text("spec: [")
            assert not await world.state.loader.reload()
            return await world.get("/policies")

    listed = asyncio.run(story())
    assert [(s["kind"], s["objects"]) for s in listed["sources"]] == [
        ("directory", 1),
        ("applied", 0),
    ]
    assert len(listed["problems"]) == 1
    assert "b.yaml" in listed["problems"][0]
