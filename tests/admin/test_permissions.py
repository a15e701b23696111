"""One table says what every route needs; each role is tried on every route there is."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from admin.api import PREFIX, create_routers
from admin.permissions import (
    GRANTS,
    TABLE,
    Permission,
    UndeclaredRoute,
    guarded,
)
from admin.roles import Role
from tests.admin.visitors import READER, roles, svid, visitor
from tests.admin.world import World, running
from tests.stores import documents

CHANGING = {Permission.OPERATE, Permission.GOVERN}
READING_POSTS = {
    f"POST /v1/{path}"
    for path in (
        "authz/check",
        "authz/check/explained",
        "authz/explain",
        "authz/diff",
        "authz/who-can",
        "authz/what-can",
        "authz/reach",
        "authz/replay",
        "authz/suggest",
        "audit/verify",
        "audit/certificate",
        "audit/at",
        "audit/report",
    )
}
"""What is asked by POST because the question is long; every other POST changes something."""


async def ask_all(world: World, client: httpx.AsyncClient) -> dict[str, int]:
    """Return the status that each route answers with; bodies are empty objects."""
    found = {}
    world.state.stopping.set()  # or following the log would never end
    for name in TABLE:
        method, path = name.split(" ")
        path = "http://meshca" + re.sub(r"\{\w+\}", "0" * 40, path)
        body = {"content": b"{}"} if method == "POST" else {}
        kind = {"content-type": "application/json"}
        # Following the log never ends: that an answer begins is enough.
        async with client.stream(method, path, headers=kind, **body) as response:  # type: ignore[arg-type]  # one of two shapes
            found[name] = response.status_code
    return found


def statuses(tmp_path: Path, role: Role) -> dict[str, int]:
    """Return what each route answers to somebody of `role`."""

    async def story() -> dict[str, int]:
        async with running(tmp_path) as world:
            chain = await svid(world, READER, namespace="audit")
            named: dict[str, Any] = {role.value: [READER]}
            given = roles(wide={READER: ["*"]}, **named)
            client = visitor(world, given, chain=chain)
            return await ask_all(world, client)

    return asyncio.run(story())


def test_every_route_is_in_the_table_and_the_table_has_no_other(tmp_path: Path) -> None:
    async def story() -> set[str]:
        async with running(tmp_path) as world:
            routes = guarded(create_routers(world.state))
            return {route.name for route in routes.values()}

    assert asyncio.run(story()) == set(TABLE)


def test_a_route_without_a_permission_does_not_start() -> None:
    router = APIRouter()

    @router.get("/secrets")
    def secrets() -> Any:
        return "all of them"

    with pytest.raises(UndeclaredRoute, match=r"GET /v1/secrets needs a permission"):
        guarded([(PREFIX, router)])


def test_a_route_that_cannot_be_guarded_does_not_start() -> None:
    async def plain(_request: Any) -> Any:
        return None

    unguarded, two = APIRouter(), APIRouter()
    unguarded.add_route("/status", plain, methods=["GET"])
    two.add_api_route("/status", plain, methods=["GET", "POST"])
    for router in (unguarded, two):
        with pytest.raises(UndeclaredRoute, match="no route of one method"):
            guarded([(PREFIX, router)])


@pytest.mark.parametrize("role", Role)
def test_each_role_gets_in_where_it_may_and_nowhere_else(tmp_path: Path, role: Role) -> None:
    for name, status in statuses(tmp_path, role).items():
        is_granted = TABLE[name].permission in GRANTS[role]
        assert (status != 403) is is_granted, f"{role}: {name} answers {status}"
        assert status != 401


def test_an_auditor_reads_everything_and_changes_nothing() -> None:
    granted = GRANTS[Role.AUDITOR]
    assert {Permission.READ, Permission.LOOK} <= granted
    assert not granted & CHANGING


def test_only_an_admin_governs() -> None:
    assert [role for role in Role if Permission.GOVERN in GRANTS[role]] == [Role.ADMIN]


def test_whatever_reads_is_not_said_to_change_and_the_reverse() -> None:
    for name, rule in TABLE.items():
        is_reading = name.startswith("GET ") or name in READING_POSTS
        assert (rule.permission not in CHANGING) is is_reading, name


def test_no_interface_changes_or_deletes_an_entry_of_the_log(tmp_path: Path) -> None:
    async def story() -> tuple[list[Any], list[Any]]:
        async with running(tmp_path) as world:
            chain = await svid(world, READER, namespace="audit")
            before = documents(world.engine)
            await ask_all(world, visitor(world, roles(admin=[READER]), chain=chain))
            return before, documents(world.engine)

    before, after = asyncio.run(story())
    assert {name.split(" ")[0] for name in TABLE} == {"GET", "POST"}
    assert len(before) > 0
    assert after[: len(before)] == before
