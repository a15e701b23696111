"""What a browser says of where a request comes from: each combination, and what it means here."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from admin.cross_site import CrossSite, check_same_site
from tests.admin.visitors import bearer, recorded, roles, visitor
from tests.admin.world import World, error, running

HOST = "mesh.example:8080"
OWN = f"https://{HOST}"


def allowed(*given: tuple[str, str], scheme: str = "https", opens_page: bool = False) -> bool:
    """Return whether a request with these headers is let in."""
    headers = [(name.encode(), value.encode("latin-1")) for name, value in given]
    try:
        check_same_site(headers, scheme, opens_page=opens_page)
    except CrossSite:
        return False
    return True


def test_programs_send_neither_header_and_are_let_in() -> None:
    assert allowed(("host", HOST))
    assert allowed()
    assert allowed(("host", "meshca"), ("referer", "https://evil.example/"), scheme="http")


@pytest.mark.parametrize(
    ("site", "is_let_in"),
    [
        ("same-origin", True),
        ("none", True),
        ("same-site", False),
        ("cross-site", False),
        ("", False),
        ("Same-Origin", False),
        ("same-origin ", False),
        ("same-origin, same-origin", False),
        ("something-new", False),
    ],
)
def test_our_own_pages_and_the_person_are_let_in(site: str, is_let_in: bool) -> None:
    assert allowed(("host", HOST), ("sec-fetch-site", site)) is is_let_in
    both = (("host", HOST), ("sec-fetch-site", site), ("origin", OWN))
    assert allowed(*both) is is_let_in


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "https://evil.example:8080",
        "http://mesh.example:8080",
        "https://mesh.example",
        "https://mesh.example:443",
        "https://mesh.example:8081",
        "https://mesh.example:08080",
        "https://mesh.example:8080/",
        "https://mesh.example:8080.evil.example",
        "https://mesh.example.:8080",
        "https://sub.mesh.example:8080",
        "https://user@mesh.example:8080",
        "https://mesh.example:8080 https://evil.example",
        "HTTPS://mesh.example:8080",
        "mesh.example:8080",
        "file://",
    ],
)
def test_another_origin_is_refused_whatever_else_is_said(origin: str) -> None:
    assert not allowed(("host", HOST), ("origin", origin))
    assert not allowed(("host", HOST), ("origin", origin), ("sec-fetch-site", "same-origin"))


@pytest.mark.parametrize(
    ("scheme", "host", "origin"),
    [
        ("https", HOST, OWN),
        ("https", "Mesh.Example:8080", OWN),
        ("https", HOST, "https://MESH.example:8080"),
        ("https", "mesh.example", "https://mesh.example"),
        ("https", "mesh.example:443", "https://mesh.example"),
        ("https", "mesh.example", "https://mesh.example:443"),
        ("http", "mesh.example:80", "http://mesh.example"),
        ("http", "127.0.0.1:4000", "http://127.0.0.1:4000"),
        ("https", "[2001:db8::1]:8080", "https://[2001:db8::1]:8080"),
        ("https", "[2001:DB8::1]", "https://[2001:db8::1]:443"),
    ],
)
def test_the_own_origin_is_let_in_however_it_is_written(
    scheme: str, host: str, origin: str
) -> None:
    assert allowed(("host", host), ("origin", origin), scheme=scheme)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("[2001:db8::1]:8080", "https://[2001:db8::2]:8080"),
        ("[2001:db8::1]:8080", "https://[2001:db8::1]"),
        ("2001:db8::1", "https://2001:db8::1"),
        ("mesh.example:80", "https://mesh.example"),
        ("", "https://"),
        ("a b", "https://a b"),
        ("mesh.example:99999999", "https://mesh.example:99999999"),
    ],
)
def test_what_cannot_be_read_is_not_ours(host: str, origin: str) -> None:
    assert not allowed(("host", host), ("origin", origin))


def test_a_header_that_is_there_twice_is_refused() -> None:
    site, origin = ("sec-fetch-site", "same-origin"), ("origin", OWN)
    assert allowed(("host", HOST), site, origin)
    assert not allowed(("host", HOST), site, site)
    assert not allowed(("host", HOST), origin, origin)
    assert not allowed(("host", HOST), ("host", HOST), origin)
    assert not allowed(origin)


LINK = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_from_elsewhere_opens_a_page_and_nothing_else(site: str) -> None:
    link = {"host": HOST, **LINK, "sec-fetch-site": site}
    assert allowed(*link.items(), opens_page=True)
    assert not allowed(*link.items())


@pytest.mark.parametrize(
    "other",
    [
        {"sec-fetch-site": "something-new"},
        {"sec-fetch-mode": "no-cors"},
        {"sec-fetch-mode": "cors"},
        {"sec-fetch-mode": ""},
        {"sec-fetch-dest": "iframe"},
        {"sec-fetch-dest": "embed"},
        {"sec-fetch-dest": "empty"},
        {"sec-fetch-dest": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_what_another_site_frames_or_reads_is_not_opened(other: dict[str, str]) -> None:
    assert not allowed(*{"host": HOST, **LINK, **other}.items(), opens_page=True)


@pytest.mark.parametrize("name", sorted(LINK))
def test_a_link_says_all_of_it_and_once(name: str) -> None:
    given = [("host", HOST), *LINK.items()]
    assert not allowed(*given, (name, LINK[name]), opens_page=True)
    without = [each for each in given if each[0] != name]
    assert allowed(*without, opens_page=True) is (name == "sec-fetch-site")


def test_a_link_leads_to_the_console_and_not_into_the_api(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        ann = visitor(world, roles(auditor=["oidc:ann"]), headers=bearer(world, "ann"))
        for method, path, status in (
            ("GET", "/console", 307),
            ("GET", "/console/", 200),
            ("POST", "/console/", 403),
            ("GET", "/console/main.js", 403),
            ("GET", "/v1/whoami", 403),
            ("GET", "/v1/audit/entries", 403),
        ):
            answer = await ann.request(method, f"http://meshca{path}", headers=LINK)
            assert (path, answer.status_code) == (path, status)

    play(tmp_path, story)


def test_the_entrance_refuses_before_it_looks_at_a_proof_and_records_it(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        given = roles(auditor=["oidc:ann"])
        ann = visitor(world, given, headers=bearer(world, "ann"))
        for headers in (
            {"sec-fetch-site": "cross-site"},
            {"origin": "https://evil.example"},
            {"origin": "null", "sec-fetch-site": "same-origin"},
        ):
            answer = await ann.get("/svids", headers=headers)
            assert error(answer)[:2] == (403, "cross_site")
            assert "open the address yourself" in error(answer)[2]
        await flushed(world)
        entries = recorded(world, "refusal")
        assert [entry["reason"] for entry in entries] == ["cross_site"] * 3
        assert entries[1]["details"]["claimed"] == {"origin": "https://evil.example"}
        assert {entry["actor"] for entry in entries} == {""}
        assert recorded(world, "login") == recorded(world, "read") == []
        own = {"sec-fetch-site": "same-origin", "origin": "http://meshca"}
        assert (await ann.get("/svids", headers=own)).status_code == 200

    play(tmp_path, story)


def test_the_unix_socket_has_the_same_guard(tmp_path: Path) -> None:
    async def story(world: World) -> None:
        assert (await world.client.get("/status")).status_code == 200
        refused: httpx.Response = await world.client.get(
            "/status", headers={"origin": "http://evil.example"}
        )
        assert error(refused)[:2] == (403, "cross_site")
        body = {"selector": {"namespace": "shop"}, "why": "test"}
        site = {"sec-fetch-site": "same-site"}
        assert error(await world.client.post("/bans", json=body, headers=site))[0] == 403
        assert recorded(world, "ban") == []

    play(tmp_path, story)


async def flushed(world: World) -> None:
    """Wait until what was recorded without waiting is in the log."""
    await asyncio.sleep(0)
    await world.writer.submit()


def play(tmp_path: Path, story: Any) -> None:
    """Run `story` in a world of its own."""

    async def scene() -> None:
        async with running(tmp_path) as world:
            await story(world)

    asyncio.run(scene())
