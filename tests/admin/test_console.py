"""The console's files: served to whoever has a role, with what a browser must keep to."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from admin.console import HEADERS, MEDIA_TYPES, read_files, web
from admin.roles import Role
from tests.admin.visitors import bearer, recorded, roles, visitor
from tests.admin.world import World, error, running

CONSOLE = "http://meshca/console"


def play(tmp_path: Path, story: Any) -> None:
    """Run `story` in a world of its own."""

    async def scene() -> None:
        async with running(tmp_path) as world:
            await story(world)

    asyncio.run(scene())


def shown(answer: httpx.Response) -> dict[str, str | None]:
    """Return what an answer says of the headers that every file has."""
    return {name: answer.headers.get(name) for name in HEADERS}


@pytest.mark.parametrize("role", Role)
def test_whoever_has_a_role_gets_every_file_as_it_is(tmp_path: Path, role: Role) -> None:
    async def story(world: World) -> None:
        given: dict[str, Any] = {role.value: ["oidc:ann"]}
        ann = visitor(world, roles(**given), headers=bearer(world, "ann"))
        for path in Path(str(web())).iterdir():
            answer = await ann.get(f"{CONSOLE}/{path.name}")
            assert (answer.status_code, answer.content) == (200, path.read_bytes())
            assert answer.headers["content-type"] == MEDIA_TYPES[path.suffix]
            assert answer.headers["cache-control"] == "no-store"
            assert shown(answer) == HEADERS
        index = await ann.get(f"{CONSOLE}/")
        assert index.content == (await ann.get(f"{CONSOLE}/index.html")).content
        assert index.headers["content-type"] == "text/html; charset=utf-8"
        assert recorded(world, "read") == []

    play(tmp_path, story)


def test_it_is_no_public_door(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        given = roles(auditor=["oidc:ann"])
        for path in ("", "/", "/index.html", "/none.js"):
            nobody = await visitor(world, given).get(CONSOLE + path)
            assert error(nobody)[:2] == (401, "unauthenticated")
            stranger = visitor(world, given, headers=bearer(world, "eve"))
            assert error(await stranger.get(CONSOLE + path))[:2] == (403, "permission_denied")

    play(tmp_path, story)


def test_without_its_slash_it_leads_there_below_any_prefix(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        answer = await world.client.get(CONSOLE)
        assert (answer.status_code, answer.headers["location"]) == (307, "console/")
        assert shown(answer) == HEADERS

    play(tmp_path, story)


def test_nothing_but_its_files_is_served(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        for path in (
            "none.js",
            "../console.py",
            "%2e%2e/console.py",
            "..%2fconsole.py",
            "%2fetc%2fpasswd",
            "index.html/",
            "sub/index.html",
            "INDEX.HTML",
            "",
        ):
            answer = await world.client.get(f"{CONSOLE}/{path}")
            assert (answer.status_code == 200) is (path == ""), path
            assert "import" not in answer.text or path == ""
        assert (await world.client.post(f"{CONSOLE}/")).status_code == 405

    play(tmp_path, story)


def test_a_file_of_another_kind_is_left_out(tmp_path: Path) -> None:
    for name in ("a.js", "a.py", "README", ".js", "a.js.bak"):
        (tmp_path / name).write_text("x")
    (tmp_path / "b.js").mkdir()
    assert set(read_files(tmp_path)) == {"a.js"}


def test_every_file_of_the_console_is_of_a_known_kind() -> None:
    names = {path.name for path in Path(str(web())).iterdir()}
    assert set(read_files(web())) == names
    assert "index.html" in names


def test_the_policy_lets_nothing_run_but_our_own_files() -> None:
    directives = dict(
        each.strip().split(" ", 1) for each in HEADERS["content-security-policy"].split(";")
    )
    assert directives.pop("require-trusted-types-for") == "'script'"
    assert set(directives.values()) == {"'none'", "'self'"}
    own = {"script-src", "style-src", "img-src", "connect-src"}
    assert {name for name, value in directives.items() if value == "'self'"} == own
    assert {*directives} - own == {"default-src", "base-uri", "form-action", "frame-ancestors"}
    assert {
        name: value for name, value in HEADERS.items() if name != "content-security-policy"
    } == {
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }
