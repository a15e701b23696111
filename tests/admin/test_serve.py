"""Opening doors: addresses that cannot be had, the unix socket's safety, a clean end."""

import asyncio
import os
import signal
import socket
import stat
from pathlib import Path

import httpx
import pytest
import uvloop
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from admin.peer import local_peer
from admin.serve import bind_tcp, bind_unix, serve_tcp, serve_unix
from meshca.demo.ports import free_port
from meshca.errors import CannotListen


async def whoami(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the peer, as the door knows it."""
    peer = local_peer(scope)
    await JSONResponse({"pid": peer.pid, "uid": peer.uid})(scope, receive, send)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse("hello")(scope, receive, send)


async def _ask(path: Path) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport, base_url="http://meshca") as client:
        return await client.get("/")


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_request_over_the_socket_knows_its_peer(tmp_path: Path, run: object) -> None:
    path = tmp_path / "admin.sock"

    async def story() -> httpx.Response:
        async with serve_unix(whoami, path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            return await _ask(path)

    response = run(story())  # type: ignore[operator]  # one of the two runners
    assert response.json() == {"pid": os.getpid(), "uid": os.getuid()}
    assert not path.exists()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_tcp_is_served_and_no_signal_is_taken(run: object) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def story() -> tuple[int, object]:
        async with serve_tcp(hello, "127.0.0.1:0", key="listen.metrics") as address:
            handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            assert handlers[1] is before[1]
            async with httpx.AsyncClient() as client:
                response = await client.get(f"http://{address}/")
                return response.status_code, response.json()

    assert run(story()) == (200, "hello")  # type: ignore[operator]  # one of the two runners


def test_a_request_over_tcp_has_no_peer() -> None:
    async def story() -> int:
        door = serve_tcp(whoami, "127.0.0.1:0", key="listen.metrics")
        async with door as address, httpx.AsyncClient() as client:
            return (await client.get(f"http://{address}/")).status_code

    assert asyncio.run(story()) == 500


def test_a_port_in_use_names_the_key_and_the_address() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        expected = rf"^listen\.public: 127\.0\.0\.1:{port}: the address is in use"
        with pytest.raises(CannotListen, match=expected):
            bind_tcp(f"127.0.0.1:{port}", key="listen.public")


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no-such-host.invalid:80"])
def test_an_address_that_is_not_ours_names_the_key(address: str) -> None:
    with pytest.raises(CannotListen, match=rf"listen\.public: {address}: "):
        bind_tcp(address, key="listen.public")


def test_ipv6_is_an_address() -> None:
    with bind_tcp("[::1]:0", key="listen.public") as bound:
        assert bound.family == socket.AF_INET6


def test_a_socket_left_by_a_dead_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    bind_unix(path).close()


def test_a_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with bind_unix(path), pytest.raises(CannotListen, match="another server is already running"):
        bind_unix(path)
    assert path.exists()


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("mine")
    with pytest.raises(CannotListen, match="is not a socket"):
        bind_unix(path)
    assert path.read_text() == "mine"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotListen, match="is not a socket"):
        bind_unix(path)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o1777])
def test_a_directory_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(CannotListen, match="other users can write to it"):
        bind_unix(directory / "admin.sock")


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match="none: No such file"):
        bind_unix(tmp_path / "none" / "admin.sock")


def test_a_path_too_long_for_a_socket_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match="at most 107 bytes"):
        bind_unix(tmp_path / ("x" * 108))


def test_a_socket_that_another_server_took_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"

    async def story() -> None:
        async with serve_unix(hello, path):
            path.unlink()
            path.write_text("somebody else's")

    asyncio.run(story())
    assert path.read_text() == "somebody else's"
