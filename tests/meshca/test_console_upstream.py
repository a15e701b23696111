"""`meshca console` and its server: what of a request arrives there, and what proves who asks."""

import asyncio
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
from cryptography.x509 import load_pem_x509_certificate

from admin.errors import MAXIMUM_BODY_BYTES
from admin.peer import TlsProtocol, tls_peer
from admin.serve import serve_admin_tls, serve_unix
from admin.tls import ServerTls
from meshca.cli.client import AdminClient, Remote
from meshca.cli.credentials import Credentials
from meshca.cli.upstream import Upstream
from meshca.demo.ports import free_port
from tests.admin.visitors import app_for, bearer, roles
from tests.admin.world import error, running
from tests.ca.endpoints import ENDPOINT_ID, leaf, pki_now
from tests.meshca.relays import HERE, START, api, relaying

PEOPLE = roles(auditor=["oidc:ann", "oidc:bob"])
PKI = pki_now()


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


@dataclass
class Recorder:
    """Keeps what it is asked with, and answers like a balancer that sets a cookie."""

    headers: list[dict[bytes, bytes]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.headers.append(dict(scope["headers"]))
        body, is_more = bytearray(), True
        while is_more:
            message = await receive()
            body += message["body"]
            is_more = message["more_body"]
        self.bodies.append(bytes(body))
        headers = [(b"set-cookie", b"balancer=one; Path=/")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"read"})


def test_a_body_arrives_whole(tmp_path: Path) -> None:
    async def scene() -> None:
        there, socket = Recorder(), tmp_path / "admin.sock"
        large = bytes(range(256)) * (MAXIMUM_BODY_BYTES // 256)
        async with (
            serve_unix(there, socket),
            relaying(socket) as console,
            httpx.AsyncClient(trust_env=False, timeout=60) as browser,
        ):
            for body in (large, b"", b"x"):
                assert (await browser.post(api(console, "x"), content=body)).text == "read"
        assert [len(body) for body in there.bodies] == [MAXIMUM_BODY_BYTES, 0, 1]
        assert there.bodies[0] == large

    asyncio.run(scene())


def test_a_cookie_is_neither_kept_nor_handed_on(tmp_path: Path) -> None:
    async def scene() -> None:
        there = Recorder()
        async with AsyncExitStack() as stack:
            door = serve_admin_tls(there, HERE, tls_of_server().context)
            address = await stack.enter_async_context(door)
            server = Remote(f"https://{address}", Credentials(ca=roots(tmp_path)))
            console = await stack.enter_async_context(relaying(server))
            browser = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            for _ in range(2):
                answer = await browser.get(api(console, "x"))
                assert answer.text == "read"
                assert "set-cookie" not in answer.headers
        assert [b"cookie" in headers for headers in there.headers] == [False, False]

    asyncio.run(scene())


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


async def closed_but(most: int) -> None:
    """Return when at most so many connections are open: before the door gives up waiting."""
    async with asyncio.timeout(5):
        while Open.now > most:
            await asyncio.sleep(0.01)


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


def renew(cert: Path) -> str:
    """Put a new certificate, and its key, in `cert`; return its serial."""
    key, chain = leaf(PKI, uri=ENDPOINT_ID)
    cert.with_suffix(".new").write_bytes(chain + key)
    cert.with_suffix(".new").replace(cert)
    return f"{load_pem_x509_certificate(chain).serial_number:x}"


def test_a_certificate_is_shown_as_it_is_now_and_what_is_followed_goes_on(tmp_path: Path) -> None:
    async def scene() -> None:
        cert = tmp_path / "svid.pem"
        renew(cert)
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
                renew(cert)
                second = (await beside.get(api(console, "whose"))).text
                assert second != first
                async with asyncio.timeout(20):
                    while await anext(lines) != f"{first} 5":  # made after the renewal
                        pass
                assert Open.now == 3
            await closed_but(1)

    asyncio.run(scene())


def test_a_client_is_not_closed_before_it_is_used(tmp_path: Path) -> None:
    cert = tmp_path / "svid.pem"

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            door = serve_admin_tls(Whose(), HERE, tls_of_server().context, protocol=Open)
            address = await stack.enter_async_context(door)
            server = Remote(f"https://{address}", Credentials(cert=cert, ca=roots(tmp_path)))
            upstream = await stack.enter_async_context(aclosing(Upstream(AdminClient(server, ""))))

            async def asked_after_renewal() -> bool:
                serial = renew(cert)
                async with upstream.stream("GET", b"/v1/whose", {}, b"") as answer:
                    return (await answer.aread()).decode() == serial

            assert await asked_after_renewal()  # leaves a connection open
            asking = (asyncio.create_task(asked_after_renewal()) for _ in range(3))
            # Each comes, and renews, while the one before it waits for that connection's end.
            assert await asyncio.gather(*asking) == [True, True, True]
            await closed_but(1)

    asyncio.run(scene())


def test_what_is_under_way_outlives_the_closing_of_its_client(tmp_path: Path) -> None:
    cert = tmp_path / "svid.pem"

    async def scene() -> None:
        serial = renew(cert)
        door = serve_admin_tls(Whose(), HERE, tls_of_server().context, protocol=Open)
        async with door as address:
            server = Remote(f"https://{address}", Credentials(cert=cert, ca=roots(tmp_path)))
            upstream = Upstream(AdminClient(server, ""))
            async with upstream.stream("GET", b"/v1/follow", {}, b"") as answer:
                await upstream.aclose()
                assert await anext(answer.aiter_lines()) == f"{serial} 1"
            await closed_but(0)

    asyncio.run(scene())
