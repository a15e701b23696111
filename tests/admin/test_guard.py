"""Before the route: permission, then the body, once, strictly; and what of it is recorded."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import APIRouter

from admin.api import PREFIX, create_routers
from admin.guard import MAXIMUM_APPLICATION_BYTES, MAXIMUM_STRUCTURE_BYTES, parsed
from admin.permissions import READ, UndeclaredRoute, guarded
from meshca.errors import RequestRefused
from tests.admin.visitors import READER, bearer, recorded, roles, svid, visitor
from tests.admin.world import ORDERS, World, error, running

PEOPLE = roles(operator=["oidc:ann"], auditor=["oidc:bob"], application=[READER])
JSON = {"content-type": "application/json"}
REVOCATION: dict[str, Any] = {"selector": {"namespace": "shop"}, "why": "test"}
Story = Callable[[World], Awaitable[None]]


def play(tmp_path: Path, story: Story) -> None:
    """Run `story` in a world of its own."""

    async def scene() -> None:
        async with running(tmp_path) as world:
            await story(world)

    asyncio.run(scene())


def parameters(world: World) -> list[Any]:
    """Return what of each read is recorded."""
    return [entry["details"]["parameters"] for entry in recorded(world, "read")]


@pytest.mark.parametrize("value", ["yes", "true", 1, 1.0])
def test_a_rehearsal_is_asked_for_by_true_and_nothing_else(tmp_path: Path, value: Any) -> None:
    async def story(world: World) -> None:
        await svid(world, ORDERS, namespace="shop")
        ann = visitor(world, PEOPLE, headers=bearer(world, "ann"))
        answer = await ann.post("/revocations", json={**REVOCATION, "dry_run": value})
        assert error(answer)[:2] == (400, "invalid_argument")
        assert [p["path"] for p in answer.json()["error"]["problems"]] == ["dry_run"]
        assert recorded(world, "revocation") == []

    play(tmp_path, story)


def test_every_flag_and_number_of_a_body_is_strict(tmp_path: Path) -> None:
    """What is recorded is the body as it came, so the route must not read it otherwise."""

    async def story(world: World) -> None:
        lax, models = [], []
        for _prefix, router in create_routers(world.state):
            for route in router.routes:
                models += [f.field_info.annotation for f in route.dependant.body_params]  # type: ignore[attr-defined]  # an APIRoute
        for model in models:
            for name, field in getattr(model, "model_fields", {}).items():
                is_coerced = re.search(r"\b(bool|int)\b", str(field.annotation)) is not None
                if is_coerced and "strict=True" not in repr(field):
                    lax.append(f"{model.__name__}.{name}")
        assert len(models) > 20
        assert lax == []

    play(tmp_path, story)


def test_a_change_that_is_refused_for_what_there_is_is_a_read(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for _ in range(11):
            await svid(world, ORDERS, namespace="shop")
        ann = visitor(world, PEOPLE, headers=bearer(world, "ann"))
        status, _, message = error(await ann.post("/revocations", json=REVOCATION))
        assert status == 409
        assert "11" in message
        (read,) = recorded(world, "read")
        assert (read["outcome"], read["details"]["status"]) == ("refused", 409)
        assert read["details"]["parameters"] == REVOCATION

    play(tmp_path, story)


OTHERS = {
    "utf-16": '{"serial": "abcd"}'.encode("utf-16"),
    "utf-32": '{"serial": "abcd"}'.encode("utf-32-be"),
    "mark": b'\xef\xbb\xbf{"serial": "abcd"}',
    "latin-1": b'{"serial": "\xe4"}',
    "nan": b'{"serial": NaN}',
    "surrogate": b'{"serial": "\\ud800"}',
    "deep": b"[" * 5000,
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_body_is_json_in_utf_8(tmp_path: Path, name: str) -> None:
    async def story(world: World) -> None:
        bob = visitor(world, PEOPLE, headers={**bearer(world, "bob"), **JSON})
        answer = await bob.post("/audit/certificate", content=OTHERS[name])
        assert error(answer)[:2] == (400, "invalid_argument")
        assert "no JSON in UTF-8" in error(answer)[2]

    play(tmp_path, story)


def test_the_body_of_whoever_may_not_is_not_parsed(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        application = visitor(world, PEOPLE, chain=chain, headers=JSON)
        for path in ("/policies", "/audit/report"):
            assert error(await application.post(path, content=b"{no json"))[0] == 403
        assert error(await application.post("/authz/check", content=b"{no json"))[0] == 400

    play(tmp_path, story)


def test_an_application_has_a_smaller_body(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        chain = await svid(world, READER, namespace="audit")
        large = {"id": "x" * MAXIMUM_APPLICATION_BYTES}
        application = visitor(world, PEOPLE, chain=chain)
        assert error(await application.post("/authz/check", json=large))[:2] == (413, "too_large")
        bob = visitor(world, PEOPLE, headers=bearer(world, "bob"))
        assert (await bob.post("/authz/check", json=large)).status_code == 200

    play(tmp_path, story)


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"1,", b'"",', b'"\\"",', b'"\\\\",', b" "])
def test_a_body_of_many_values_is_refused_before_it_is_parsed(unit: bytes) -> None:
    body = b'{"documents":[' + unit * (MAXIMUM_STRUCTURE_BYTES // len(unit) * 2) + b"1]}"
    assert isinstance(orjson.loads(body), dict)
    with pytest.raises(RequestRefused, match="outside of its strings") as caught:
        parsed(body)
    assert caught.value.reason == "too_complex"


@pytest.mark.parametrize("text", ["a: [b, {c: d}]\n", 'a: "[,]"\n', "\\", '\\"', '"\\\\"', "é☃"])
def test_a_long_text_is_taken_whatever_it_says(text: str) -> None:
    said = {"documents": text * (3 * 1024 * 1024 // len(json.dumps(text))), "reason": "x"}
    assert parsed(orjson.dumps(said)) == said
    assert parsed(json.dumps(said).encode()) == said


def test_what_was_asked_is_recorded_as_it_was_sent(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        bob = visitor(world, PEOPLE, headers=bearer(world, "bob"))
        question = {"source": {"principal": ORDERS}, "destination": {"namespace": "shop"}}
        labelled = {"destination": {"namespace": "shop", "labels": {"app": "orders"}}}
        await bob.post("/authz/check", json={**question, "other": "hunter2"})
        await bob.post("/authz/check", json={"requests": [labelled] * 20})
        await bob.get("/audit/export?from=3&to=9&kind=login")
        await bob.get("/svids?namespace=shop&namespace=bank")
        single, several, export, twice = parameters(world)
        assert single == question
        assert several["requests"][:16] == [labelled] * 16
        assert several["requests"][16].startswith("4 more; all: sha256:")
        assert export == {"from": "3", "to": "9", "kind": "login"}
        assert twice == {"namespace": ["shop", "bank"]}

    play(tmp_path, story)


def test_a_body_that_nothing_describes_does_not_start() -> None:
    router = APIRouter()

    @router.post("/anything")
    def anything(asked: dict[str, Any]) -> Any:
        return asked

    with pytest.raises(UndeclaredRoute, match="nothing says what to record"):
        guarded([(PREFIX, router)], {"POST /v1/anything": READ})


def test_names_are_those_that_are_sent(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        found = {
            route.name: route.parameters for route in guarded(create_routers(world.state)).values()
        }
        assert {"from", "to", "format"} <= found["GET /v1/audit/export"]
        assert "start" not in found["GET /v1/audit/export"]
        assert {"requests", "source"} <= found["POST /v1/authz/check"]

    play(tmp_path, story)


@pytest.mark.parametrize("person", ["ann", "bob"])
def test_nobody_asks_about_more_than_a_thousand_requests_at_once(
    tmp_path: Path, person: str
) -> None:
    async def story(world: World) -> None:
        client = visitor(world, PEOPLE, headers=bearer(world, person))
        answer = await client.post("/authz/check", json={"requests": [{}] * 1001})
        assert error(answer)[0] == 400
        assert "at most 1000" in error(answer)[2]

    play(tmp_path, story)
