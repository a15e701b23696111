"""`meshca console`: a browser here reaches the console and the API as its owner, nobody else does.

Real sockets throughout: the relay on loopback, the admin app of a world behind it.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from admin.cross_site import PUBLIC_MESSAGE
from admin.errors import MAXIMUM_BODY_BYTES
from admin.peer import TlsProtocol, tls_peer
from admin.serve import serve_admin_tls, serve_tcp
from admin.tls import ServerTls
from meshca.cli.client import AdminClient, Remote
from meshca.cli.credentials import Credentials
from meshca.cli.relay import MAXIMUM_CONNECTIONS, is_passed_on, serve
from meshca.cli.upstream import Upstream
from meshca.demo.ports import free_port
from tests.admin.visitors import app_for, bearer, recorded, roles
from tests.admin.world import World, error, running
from tests.audit.test_log import entry
from tests.ca.endpoints import ENDPOINT_ID, leaf, pki_now
from tests.meshca.cli import meshca

MESHCA = Path(sys.executable).with_name("meshca")
PEOPLE = roles(auditor=["oidc:ann", "oidc:bob"])
START = "meshca serve --config x.yaml"
HERE = "127.0.0.1:0"
PKI = pki_now()


@asynccontextmanager
async def relaying(server: Path | Remote, listen: str = HERE) -> AsyncIterator[str]:
    """Run a relay to `server`; yield the console's address."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    stopping = asyncio.Event()
    upstream = Upstream(AdminClient(server, START))
    serving = asyncio.create_task(
        serve(upstream, listen, opened=told.set_result, stopping=stopping)
    )
    try:
        async with asyncio.timeout(20):
            console = await told
        yield console
    finally:
        stopping.set()
        await serving


Story = Callable[[World, str, httpx.AsyncClient], Awaitable[None]]


def play(tmp_path: Path, story: Story, listen: str = HERE) -> None:
    """Run `story` with a world, the console's address behind a relay to it, and a browser."""

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(running(tmp_path))
            console = await stack.enter_async_context(relaying(world.socket, listen))
            browser = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            await story(world, console, browser)

    asyncio.run(scene())


def api(console: str, path: str) -> str:
    """Return the address of the API beside the console's."""
    return console.removesuffix("console/") + "v1/" + path


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
        asked = {"pem": "no certificate"}
        refused = await browser.post(api(console, "audit/certificate"), json=asked)
        assert error(refused)[:2] == (400, "invalid_argument")

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


def test_a_server_that_is_down_is_said_with_what_to_do(tmp_path: Path) -> None:
    async def scene() -> list[tuple[int, str, str]]:
        nowhere = Remote(f"https://127.0.0.1:{free_port()}", Credentials())
        no_token = Remote("https://127.0.0.1:1", Credentials(token_file=tmp_path / "none"))
        said = []
        async with httpx.AsyncClient(trust_env=False) as browser:
            for server in (tmp_path / "admin.sock", nowhere, no_token):
                async with relaying(server) as console:
                    said.append(error(await browser.get(console)))
        return said

    local, remote, no_token = asyncio.run(scene())
    assert {each[:2] for each in (local, remote, no_token)} == {(502, "unreachable")}
    assert f"{tmp_path}/admin.sock cannot be reached" in local[2]
    assert f"start it: {START}" in local[2]
    assert "--url and --ca are right" in remote[2]
    assert f"cannot read {tmp_path}/none" in no_token[2]


def tls_of_server() -> ServerTls:
    """Return the TLS of an admin door that lets clients show certificates of PKI."""
    from cryptography.hazmat.primitives.serialization import Encoding

    tls = ServerTls()
    tls.ask_for_certificates(lambda _why: None)
    tls.replace(*leaf(PKI, ip="127.0.0.1"))
    tls.trust(PKI.root.public_bytes(Encoding.PEM))
    return tls


def roots(directory: Path) -> Path:
    """Return a file with the root of PKI."""
    from cryptography.hazmat.primitives.serialization import Encoding

    path = directory / "roots.pem"
    path.write_bytes(PKI.root.public_bytes(Encoding.PEM))
    return path


def test_a_token_is_read_for_each_request_and_goes_to_the_server_only(tmp_path: Path) -> None:
    async def scene() -> None:
        async with AsyncExitStack() as stack:
            world = await stack.enter_async_context(running(tmp_path))
            asked: list[dict[bytes, bytes]] = []
            inner = app_for(world, PEOPLE)

            async def seen(scope: Any, receive: Any, send: Any) -> None:
                asked.append(dict(scope["headers"]))
                await inner(scope, receive, send)

            door = serve_admin_tls(seen, HERE, tls_of_server().context)
            address = await stack.enter_async_context(door)
            token = tmp_path / "token"
            given = Credentials(token_file=token, ca=roots(tmp_path))
            server = Remote(f"https://{address}", given)
            console = await stack.enter_async_context(relaying(server))
            browser = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            for person in ("ann", "bob"):
                token.write_text(bearer(world, person)["authorization"].removeprefix("Bearer "))
                forged = {
                    "authorization": "Bearer forged",
                    "cookie": "a=b",
                    "x-forwarded-for": "192.0.2.1",
                    "referer": console,
                }
                answer = await browser.get(api(console, "whoami"), headers=forged)
                assert answer.json()["actor"] == f"oidc:{person}"
                said = answer.text + str(answer.headers.raw)
                assert token.read_text() not in said
                assert not {"set-cookie", "www-authenticate"} & set(answer.headers)
            sent = asked[-1]
            assert sent[b"authorization"] == f"Bearer {token.read_text()}".encode()
            assert sent[b"host"] == address.encode()
            assert not {b"cookie", b"x-forwarded-for", b"referer", b"origin"} & set(sent)
            assert console.split("/")[3] not in str(asked)
            token.write_text("forged")
            refused = await browser.get(api(console, "whoami"))
            assert error(refused)[:2] == (401, "unauthenticated")
            assert "www-authenticate" not in refused.headers

    asyncio.run(scene())


class Open(TlsProtocol):
    """The door's protocol, which counts the connections there are."""

    now: ClassVar[int] = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        Open.now += 1

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        Open.now -= 1


@dataclass
class Whose:
    """Answers with the serial of the client's certificate, and how often it was asked."""

    asked: int = 0

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.asked += 1
        serial = f"{tls_peer(scope).chain[0].serial_number:x}"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        is_followed = scope["path"] == "/v1/follow"
        while is_followed:
            line = f"{serial} {self.asked}\n".encode()
            await send({"type": "http.response.body", "body": line, "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": serial.encode()})


def test_a_certificate_is_shown_as_it_is_now_and_what_is_followed_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        cert = tmp_path / "svid.pem"

        def renew() -> None:
            key, chain = leaf(PKI, uri=ENDPOINT_ID)
            cert.with_suffix(".new").write_bytes(chain + key)
            cert.with_suffix(".new").replace(cert)

        renew()
        async with AsyncExitStack() as stack:
            door = serve_admin_tls(Whose(), HERE, tls_of_server().context, protocol=Open)
            address = await stack.enter_async_context(door)
            server = Remote(f"https://{address}", Credentials(cert=cert, ca=roots(tmp_path)))
            console = await stack.enter_async_context(relaying(server))
            browser = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            first = (await browser.get(api(console, "whose"))).text
            assert (await browser.get(api(console, "whose"))).text == first
            async with (
                browser.stream("GET", api(console, "follow")) as answer,
                httpx.AsyncClient(trust_env=False) as beside,
            ):
                lines = answer.aiter_lines()
                assert await anext(lines) == f"{first} 3"
                assert (await beside.get(api(console, "whose"))).text == first
                renew()
                second = (await beside.get(api(console, "whose"))).text
                assert second != first
                async with asyncio.timeout(20):
                    while await anext(lines) != f"{first} 5":  # made after the renewal
                        pass
                assert Open.now == 3
            async with asyncio.timeout(5):  # less than the door waits for another request
                while Open.now > 1:
                    await asyncio.sleep(0.01)

    asyncio.run(scene())


def test_one_connection_too_many_is_told_so() -> None:
    async def hello(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def scene() -> list[int]:
        async with serve_tcp(hello, HERE, key="x", most=3) as address:
            clients = [httpx.AsyncClient(trust_env=False) for _ in range(3)]
            found = [(await client.get(f"http://{address}/")).status_code for client in clients]
            for client in clients:
                await client.aclose()
            return found

    assert asyncio.run(scene()) == [200, 200, 503]
    assert MAXIMUM_CONNECTIONS == 64


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
