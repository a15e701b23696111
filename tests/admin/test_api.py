"""What the admin API refuses, and that each refusal has the same shape."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.admin.world import (
    error,
    local_admins,
    running,
)

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
        async with running(tmp_path, roles=local_admins(4_000_000)) as world:
            claims = {"X-Remote-User": "root", "X-Forwarded-For": "127.0.0.1"}
            return await world.client.get("/status", headers=claims)

    assert error(asyncio.run(story()))[:2] == (403, "permission_denied")
