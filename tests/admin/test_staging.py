"""Staged changes and emergencies through the admin door: shapes, refusals, two persons."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from admin.api import create_app
from admin.peer import Peer
from authz.engine import decide
from authz.workload import Workload
from tests.admin.world import POLICY, World, error, local_admins, running
from tests.authz.builders import request as asked

OTHER = 65_534
NEW = POLICY.replace("methods: [GET]", "methods: [POST]")
BYPASS = {"namespace": "shop", "labels": {"app": "orders"}, "seconds": 600, "reason": "INC-7"}
ORDERS = Workload("shop", {"app": "orders"})

_AS_ANOTHER = """
import http.client, os, socket, sys
uid, path, target, body = int(sys.argv[1]), *sys.argv[2:]
os.setgroups([]); os.setgid(uid); os.setuid(uid)
connection = http.client.HTTPConnection("meshca")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(path)
connection.request("POST", target, body, {"content-type": "application/json"})
print(connection.getresponse().read().decode())
"""


async def post(world: World, path: str, body: Any) -> Any:
    """Return the JSON of a step that must be taken."""
    response = await world.client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def as_person(world: World, uid: int) -> httpx.AsyncClient:
    """Return a client that the door takes for another user: below the socket, above the kernel."""
    access = world.state.access
    roles = replace(access.proofs, roles=local_admins(uid))
    app = create_app(replace(world.state, access=replace(access, proofs=roles)))

    async def known(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = {"peer": Peer(1, uid, uid)}
        await app(scope, receive, send)

    transport = httpx.ASGITransport(app=known)
    return httpx.AsyncClient(transport=transport, base_url="http://meshca/v1")


def test_a_change_is_staged_promoted_shown_and_enforced(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            await post(world, "/policies", {"documents": POLICY, "reason": "x"})
            staged = await post(world, "/authz/stage", {"documents": NEW, "reason": "CHG-7"})
            assert (staged["stage"], staged["based_on"], staged["problems"]) == ("draft", 1, [])
            assert (await world.get("/authz/stage"))["changes"] is None
            await post(world, "/authz/stage/promote", {"reason": "look"})
            shown = await world.get("/authz/stage", documents="true")
            assert (shown["stage"], shown["documents"]) == ("shadow", NEW)
            assert shown["changes"] == {
                "newly_denied": 0,
                "newly_allowed": 0,
                "operations": 0,
                "lost": 0,
                "shown": [],
            }
            body = {"reason": "try", "namespaces": ["shop"]}
            promoted = await post(world, "/authz/stage/promote", body)
            assert promoted["candidate"]["namespaces"] == ["shop"]
            status = (await world.get("/status"))["policies"]
            assert (status["canary"], status["candidate"]) == (["shop"], staged["version"])
            shown = await world.get("/authz/stage")
            assert (shown["canary"]["falls_back_at"], shown["canary"]["blind"]) == (2, False)
            enforced = await post(world, "/authz/stage/promote", {"reason": "it held"})
            assert (enforced["candidate"], enforced["applied_version"]) == (None, 2)
            assert (await world.get("/policies"))["applied"]["documents"] == NEW
            assert (await world.client.get("/authz/stage")).status_code == 404

    asyncio.run(story())


def test_a_draft_can_be_compared_with_what_is_in_force(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            await post(world, "/policies", {"documents": POLICY, "reason": "x"})
            await post(world, "/authz/stage", {"documents": NEW, "reason": "x"})
            answer = await post(world, "/authz/diff", {"before": "current", "after": "staged"})
            changes = [(c["change"], c["region"]["method"]) for c in answer["changes"]]
            assert sorted(changes) == [("newly allowed", ["POST"]), ("newly denied", ["GET"])]

    asyncio.run(story())


def test_a_staged_change_is_withdrawn(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            await post(world, "/authz/stage", {"documents": NEW, "reason": "x"})
            ended = await post(world, "/authz/stage/withdraw", {"reason": "no"})
            assert ended == {"number": 1, "withdrawn": True}

    asyncio.run(story())


def test_mistakes_of_a_staged_set_are_all_named(tmp_path: Path) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            body = {"documents": NEW.replace("ALLOW", "ALOW"), "reason": "x"}
            return await world.client.post("/authz/stage", json=body)

    response = asyncio.run(story())
    assert error(response)[:2] == (400, "invalid_document")
    assert [p["path"] for p in response.json()["error"]["problems"]] == ["spec.action"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/authz/stage", {"documents": NEW, "reason": " "}),
        ("/authz/stage/promote", {"reason": "x", "to": "draft"}),
        ("/authz/stage/promote", {"reason": "x", "namespaces": ["No Name"]}),
        ("/authz/approvals", {"reason": "x"}),
        ("/authz/approvals", {"reason": "x", "policy": "a/b", "bypass": "bypass-00000000"}),
        ("/authz/approvals", {"reason": "x", "bypass": "bypass-0"}),
        ("/authz/bypasses", {**BYPASS, "namespace": "*"}),
        ("/authz/bypasses", {**BYPASS, "labels": {"": "x"}}),
        ("/authz/bypasses", {**BYPASS, "seconds": 0}),
        ("/authz/bypasses", {**BYPASS, "seconds": 4 * 3600 + 1}),
        ("/authz/bypasses", {**BYPASS, "approved": True}),
    ],
)
def test_refuses_what_cannot_be_meant(tmp_path: Path, path: str, body: Any) -> None:
    async def story() -> Any:
        async with running(tmp_path) as world:
            return await world.client.post(path, json=body)

    assert error(asyncio.run(story()))[:2] == (400, "invalid_argument")


def test_a_bypass_takes_a_second_person(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            made = await post(world, "/authz/bypasses", BYPASS)
            assert (made["state"], made["expires"], made["approved"]) == ("requested", None, None)
            approval = {"bypass": made["bypass"], "reason": "yes"}
            alone = await world.client.post("/authz/approvals", json=approval)
            assert error(alone)[0] == 400
            assert "somebody else has to approve" in error(alone)[2]
            async with as_person(world, OTHER) as bob:
                approved = (await bob.post("/authz/approvals", json=approval)).json()["bypass"]
            assert (approved["state"], approved["approved"]["actor"]) == (
                "in_force",
                f"uid:{OTHER}",
            )
            assert decide(world.state.policies.current, now(world)).allowed
            status = (await world.get("/status"))["policies"]
            assert [b["bypass"] for b in status["bypasses"]] == [made["bypass"]]
            listed = (await world.get("/authz/bypasses"))["bypasses"]
            assert [b["bypass"] for b in listed] == [made["bypass"]]
            await post(world, f"/authz/bypasses/{made['bypass']}/end", {"reason": "mended"})
            assert (await world.get("/authz/bypasses"))["bypasses"] == []
            (ended,) = (await world.get("/authz/bypasses", all="true"))["bypasses"]
            assert (ended["state"], ended["ended_by"]) == ("ended", f"uid:{os.geteuid()}")

    asyncio.run(story())


def now(world: World) -> Any:
    made = asked("example.org/ns/shop/sa/guest", destination=ORDERS)
    return replace(made, time=world.clock.now().timestamp())


def test_a_break_glass_policy_takes_a_second_person(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path) as world:
            ends = (world.clock.now() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
            annotations = f'{{meshca.io/break-glass: INC-7, meshca.io/expires: "{ends}"}}'
            text = POLICY.replace("shop}", f"shop, annotations: {annotations}}}", 1)
            await post(world, "/policies", {"documents": text, "reason": "x"})
            approval = {"policy": "shop/orders-readers", "reason": "yes"}
            alone = await world.client.post("/authz/approvals", json=approval)
            assert "somebody else has to approve" in error(alone)[2]
            async with as_person(world, OTHER) as bob:
                approved = (await bob.post("/authz/approvals", json=approval)).json()["policy"]
            assert (approved["holds"], approved["needed"]) == (True, 1)
            (listed,) = (await world.get("/authz/approvals"))["approvals"]
            assert listed == approved
            status = (await world.get("/status"))["policies"]
            assert status["break_glass"] == ["shop/orders-readers"]

    asyncio.run(story())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_second_person_is_the_kernels_word(tmp_path: Path) -> None:
    async def story() -> None:
        async with running(tmp_path, roles=local_admins(0, OTHER)) as world:
            made = await post(world, "/authz/bypasses", BYPASS)
            world.socket.chmod(0o666)
            for directory in (tmp_path, *tmp_path.parents):
                if len(directory.parts) > 2:
                    directory.chmod(directory.stat().st_mode | 0o011)
            body = orjson.dumps({"bypass": made["bypass"], "reason": "yes"}).decode()
            arguments = [str(OTHER), str(world.socket), "/v1/authz/approvals", body]
            command = [sys.executable, "-c", _AS_ANOTHER, *arguments]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, check=False, timeout=60
            )
            assert done.returncode == 0, done.stderr
            approved = orjson.loads(done.stdout)["bypass"]["approved"]
            assert approved["actor"] == f"uid:{OTHER}"
            assert decide(world.state.policies.current, now(world)).allowed

    asyncio.run(story())
