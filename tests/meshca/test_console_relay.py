"""`meshca console`: a browser here reaches the console and the API as its owner, nobody else does.

Real sockets throughout: the relay on loopback, the admin app of a world behind it.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from admin.cross_site import PUBLIC_MESSAGE
from admin.errors import MAXIMUM_BODY_BYTES
from meshca.cli.relay import MAXIMUM_CONNECTIONS, is_passed_on
from tests.admin.visitors import recorded
from tests.admin.world import World, error, running
from tests.audit.test_log import entry
from tests.meshca.cli import meshca
from tests.meshca.relays import HERE, api, play, relaying

MESHCA = Path(sys.executable).with_name("meshca")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds, at most some seconds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("listen", [HERE, "[::1]:0"])
def test_the_console_and_the_api_are_the_servers(tmp_path: Path, listen: str) -> None:
    async def story(world: World, console: str, browser: httpx.AsyncClient) -> None:
        page = await browser.get(console)
        at_server = await world.client.get("http://meshca/console/")
        assert (page.status_code, page.content) == (200, at_server.content)
        for name in ("content-type", "content-security-policy", "referrer-policy"):
            assert page.headers[name] == at_server.headers[name]
        given = {b"x-request-id": b"r-7", b"accept": b"application/json, \xff/\xe4"}
        who = await browser.get(api(console, "whoami"), headers=given)
        assert who.json()["actor"] == f"uid:{os.geteuid()}"
        assert who.headers["x-request-id"] == "r-7"
        assert (who.headers["x-content-type-options"], who.headers["cache-control"]) == (
            "nosniff",
            "no-store",
        )
        found = await browser.get(api(console, "audit/entries"), params={"kind": "read"})
        assert found.status_code == 200
        assert [read["details"]["parameters"] for read in recorded(world, "read")] == [
            {"kind": "read"}
        ]
        answered = await browser.post(api(console, "audit/certificate"), json={"serial": "ffff"})
        assert (answered.status_code, answered.json()["verdict"]) == (200, "unknown")
        assert recorded(world, "read")[-1]["details"]["parameters"] == {"serial": "ffff"}

    play(tmp_path, story, listen)


def test_any_way_to_the_console_leads_to_its_address(tmp_path: Path) -> None:
    async def story(_world: World, console: str, browser: httpx.AsyncClient) -> None:
        root = console.removesuffix("/console/")
        for path in ("", "/", "/console"):
            answer = await browser.get(root + path)
            assert (answer.status_code, answer.headers["location"]) == (307, console), path

    play(tmp_path, story)


def test_an_answer_arrives_piece_by_piece_and_ends_upstream_with_the_browser(
    tmp_path: Path,
) -> None:
    async def story(world: World, console: str, browser: httpx.AsyncClient) -> None:
        async with browser.stream("GET", api(console, "audit/follow?cluster=us")) as answer:
            assert answer.headers["content-type"] == "application/jsonl"
            lines = answer.aiter_lines()
            async with asyncio.timeout(20):
                assert "heartbeat" in json.loads(await anext(lines))
                assert list(world.state.access.costly.values()) == [1]
                for number in (1, 2):
                    await world.writer.submit(entry(number, cluster="us"))
                    assert json.loads(await anext(lines))["cluster"] == "us"
        await until(lambda: not world.state.access.costly)

    play(tmp_path, story)


def test_ending_the_relay_ends_what_is_followed_at_once(tmp_path: Path) -> None:
    async def scene() -> None:
        async with running(tmp_path) as world, httpx.AsyncClient(trust_env=False) as browser:
            relay = relaying(world.socket)
            console = await relay.__aenter__()
            async with browser.stream("GET", api(console, "audit/follow")) as answer:
                pieces = answer.aiter_raw()
                await anext(pieces)
                async with asyncio.timeout(2.5):  # less than uvicorn waits for what is under way
                    await relay.__aexit__(None, None, None)
                with pytest.raises(httpx.RemoteProtocolError):
                    await anext(pieces)
            await until(lambda: not world.state.access.costly)

    asyncio.run(scene())


def test_without_the_secret_nothing_is_told(tmp_path: Path) -> None:
    async def story(world: World, console: str, browser: httpx.AsyncClient) -> None:
        secret = console.split("/")[3]
        assert len(secret) == 43
        origin = console.partition(f"/{secret}")[0]
        other = "x" * 43
        for path in (
            "",
            "/",
            "/console/",
            "/v1/whoami",
            f"/{other}/console/",
            f"/{secret[:-1]}/console/",
            f"/{secret}x/console/",
            f"/{secret.swapcase()}/v1/whoami",
            f"//{secret}/console/",
            f"/x/{secret}/console/",
            f"/{secret[:-1]}%{ord(secret[-1]):02x}/console/",
        ):
            for headers in ({}, {"host": "evil.example"}, {"sec-fetch-site": "cross-site"}):
                answer = await browser.get(origin + path, headers=headers)
                assert (answer.status_code, answer.content) == (404, b""), path
                assert {"content-length", "date"} == set(answer.headers)
        assert recorded(world, "read") == []

    play(tmp_path, story)


def test_another_name_for_its_address_is_refused(tmp_path: Path) -> None:
    async def story(_world: World, console: str, browser: httpx.AsyncClient) -> None:
        port = console.split("/")[2].rpartition(":")[2]
        for host in (
            f"evil.example:{port}",
            f"localhost:{port}",
            f"127.0.0.2:{port}",
            f"127.0.0.1.evil.example:{port}",
            "127.0.0.1",
            "127.0.0.1:1",
            "",
        ):
            for address in (console, api(console, "whoami"), console.removesuffix("console/")):
                answer = await browser.get(address, headers={"host": host})
                assert error(answer)[:2] == (403, "wrong_host"), host

    play(tmp_path, story)


def test_what_a_page_of_another_site_asks_is_refused(tmp_path: Path) -> None:
    async def story(world: World, console: str, browser: httpx.AsyncClient) -> None:
        origin = "/".join(console.split("/")[:3])
        for headers in (
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "null"},
            {"origin": "http://127.0.0.1:1"},
            {"origin": origin.replace("http", "https")},
        ):
            body = {"selector": {"namespace": "shop"}, "why": "test"}
            answer = await browser.post(api(console, "bans"), json=body, headers=headers)
            assert error(answer) == (403, "cross_site", PUBLIC_MESSAGE)
        assert recorded(world, "ban") == []
        own = {"origin": origin, "sec-fetch-site": "same-origin"}
        assert (await browser.get(api(console, "whoami"), headers=own)).status_code == 200
        typed = {"sec-fetch-site": "none"}
        assert (await browser.get(console, headers=typed)).status_code == 200

    play(tmp_path, story)


OUTSIDE = [
    "",
    "/",
    "/console",
    "/v1",
    "/v1/",
    "/v2/whoami",
    "/metrics",
    "/v1//whoami",
    "/console/../v1/whoami",
    "/v1/../metrics",
    "/v1/..",
    "/v1/.",
    "/v1/%2e%2e/metrics",
    "/v1/%2E./metrics",
    "/v1/a%2fb",
    "/v1/a%2Fb",
    "/v1/a%5cb",
    "/v1/a\\b",
    "/v1/%252e%252e/metrics",
    "/v1/a%00",
    "/v1/a%0d%0aHost:%20x",
    "/v1/a%7f",
    "/v1/%zz",
    "/v1/a#b",
    "/v1/a b",
    "/v1;/whoami",
    "/console/%2e%2e",
    "/console/a/b",
    "/consoles/a",
    "/V1/whoami",
    "http://127.0.0.1/v1/whoami",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_does_not_lead_out_of_console_and_api(path: str) -> None:
    assert not is_passed_on(path.encode(), b"")


@pytest.mark.parametrize(
    "path", ["/console/", "/console/api.js", "/v1/whoami", "/v1/svids/00:ff", "/v1/a%20b/c~d"]
)
def test_the_paths_of_console_and_api_are_passed_on(path: str) -> None:
    assert is_passed_on(path.encode(), b"kind=read&text=%3Cscript%3E&cursor=7")
    assert not is_passed_on(path.encode(), b"a#b")
    assert not is_passed_on(path.encode(), b"a b")


def test_what_leads_elsewhere_is_answered_here_and_not_by_the_server(tmp_path: Path) -> None:
    async def story(_world: World, console: str, _browser: httpx.AsyncClient) -> None:
        _, _, address, secret, *_ = console.split("/")
        host, _, port = address.rpartition(":")
        sent = [path for path in OUTSIDE if path not in ("", "/", "/console") and " " not in path]
        for path in (*sent, f"x{secret}/v1/whoami"):
            reader, writer = await asyncio.open_connection(host, int(port))
            target = f"/{secret}{path}" if path.startswith("/") else path
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {address}\r\n".encode())
            writer.write(b"Connection: close\r\n\r\n")
            async with asyncio.timeout(20):
                answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 404 "), path
            assert b"x-request-id" not in answer, path
        async with httpx.AsyncClient(trust_env=False) as browser:
            for method in ("PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"):
                answered = await browser.request(method, api(console, "whoami"))
                assert answered.status_code == 405
                assert answered.headers.get("x-request-id") is None, method

    play(tmp_path, story)


def test_a_body_has_the_bound_of_the_admin_door(tmp_path: Path) -> None:
    async def story(_world: World, console: str, browser: httpx.AsyncClient) -> None:
        large = b"x" * (MAXIMUM_BODY_BYTES + 1)
        answer = await browser.post(api(console, "audit/certificate"), content=large)
        assert error(answer)[:2] == (413, "too_large")

    play(tmp_path, story)


def test_one_connection_too_many_is_told_so(tmp_path: Path) -> None:
    async def scene() -> tuple[list[int], int]:
        async with relaying(tmp_path / "admin.sock") as console, AsyncExitStack() as stack:
            origin, found = console.partition("/console/")[0].rpartition("/")[0], list[int]()
            for _ in range(MAXIMUM_CONNECTIONS):
                client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
                found.append((await client.get(origin)).status_code)
            await stack.aclose()  # all of them hang up
            async with asyncio.timeout(20), httpx.AsyncClient(trust_env=False) as client:
                while (again := (await client.get(origin)).status_code) == 503:
                    await asyncio.sleep(0.01)
            return found, again

    assert MAXIMUM_CONNECTIONS == 64
    assert asyncio.run(scene()) == ([404] * 63 + [503], 404)


@pytest.mark.parametrize(
    "listen",
    ["0.0.0.0:0", "192.0.2.1:8090", "[::]:0", "localhost:0", ":0", "127.0.0.1", "127.0.0.1:x",
     "127.0.0.1:70000", "127.0.0.1:-1", "8090", ""],
)  # fmt: skip
def test_it_listens_on_this_machine_only(listen: str) -> None:
    result = meshca("console", "--url", "unix:/none", "--listen", listen)
    assert (result.status, result.out) == (2, "")
    assert "is no port of a loopback address" in result.err


def test_a_server_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    result = meshca("console", "--url", f"unix:{tmp_path}/admin.sock")
    assert (result.status, result.out) == (1, "")
    assert "the server is not running" in result.err


def test_the_command_tells_the_address_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    async def story(world: World, _console: str, browser: httpx.AsyncClient) -> None:
        command = (str(MESHCA), "console", "--url", f"unix:{world.socket}")
        piped = asyncio.subprocess.PIPE
        ended = await asyncio.create_subprocess_exec(*command, stdout=piped, stderr=piped)
        assert ended.stdout is not None
        assert ended.stderr is not None
        async with asyncio.timeout(60):
            console = (await ended.stdout.readline()).decode().strip()
            async with browser.stream("GET", api(console, "audit/follow")) as answer:
                await anext(answer.aiter_raw())
                ended.send_signal(signal.SIGINT)
                assert await ended.wait() == 0
            said = (await ended.stderr.read()).decode()
            assert await ended.stdout.read() == b""
        assert f"Whoever opens this address is uid:{os.geteuid()} (admin) at " in said
        assert len(said.splitlines()) == 1
        assert console.split("/")[3] not in said

    play(tmp_path, story)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async def story(world: World, console: str, _browser: httpx.AsyncClient) -> None:
        taken = console.split("/")[2]
        command = (str(MESHCA), "console", "--url", f"unix:{world.socket}", "--listen", taken)
        piped = asyncio.subprocess.PIPE
        ended = await asyncio.create_subprocess_exec(*command, stdout=piped, stderr=piped)
        out, err = await asyncio.wait_for(ended.communicate(), 60)
        assert (ended.returncode, out) == (1, b"")
        assert f"--listen: {taken}: the address is in use" in err.decode()

    play(tmp_path, story)
