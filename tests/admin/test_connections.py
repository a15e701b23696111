"""What a stranger may hold of a door: few connections, and none that asks nothing for long."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from starlette.responses import Response, StreamingResponse

from admin.connections import PatientProtocol, origin
from admin.peer import TlsProtocol
from admin.serve import serve_admin_tls
from tests.admin.test_admin_tls import ask, context, server, shown

RUNNERS = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 32 * 1024 * 1024
UNENDING = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n"


class Impatient(TlsProtocol):
    """The door's protocol, for which half a second is long."""

    patience = 0.5
    stall = 0.5


class Lenient(Impatient):
    """The same, but what was written may be taken slowly."""

    stall = 60.0


class Narrow(TlsProtocol):
    """The door's protocol, with room for three, two of them from one address."""

    most = 3
    most_of_one = 2


class NarrowInAll(Narrow):
    """The same, and all may come from one address."""

    most_of_one = 9


async def slow(scope: Any, receive: Any, send: Any) -> None:
    """Answer when an idle connection would have been hung up on."""
    await asyncio.sleep(Impatient.patience * 1.5)
    await shown(scope, receive, send)


async def connect(address: str, directory: Path) -> Any:
    host, _, port = address.partition(":")
    return await asyncio.open_connection(host, int(port), ssl=context(directory, None))


async def is_ended(reader: asyncio.StreamReader) -> bool:
    """Return True when the other end has hung up, whatever it said before."""
    async with asyncio.timeout(20):
        try:
            await reader.read()
        except ConnectionError:
            return True
    return reader.at_eof()


@RUNNERS
@pytest.mark.parametrize("first", [ASKED, UNENDING], ids=["asked", "with a body that is not over"])
def test_after_an_answer_a_head_or_body_that_dribbles_is_hung_up_on(
    tmp_path: Path, run: Any, first: bytes
) -> None:
    async def story() -> bool:
        door = serve_admin_tls(slow, "127.0.0.1:0", server([]).context, protocol=Impatient)
        async with door as address:
            reader, writer = await connect(address, tmp_path)
            writer.write(first)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")

            async def dribble() -> None:
                while not writer.is_closing():
                    writer.write(b"G")
                    await asyncio.sleep(0.1)

            dribbling = asyncio.create_task(dribble())
            ended = await is_ended(reader)
            dribbling.cancel()
            writer.close()
            return ended

    assert run(story())


def test_an_answer_that_takes_longer_than_the_patience_is_waited_for(tmp_path: Path) -> None:
    async def story() -> list[Any]:
        door = serve_admin_tls(slow, "127.0.0.1:0", server([]).context, protocol=Impatient)
        async with door as address:
            return [await ask(address, context(tmp_path, None)) for _ in range(2)]

    assert asyncio.run(story()) == [0, 0]


async def many(scope: Any, receive: Any, send: Any) -> None:
    async def pieces() -> Any:
        for _ in range(LARGE // 65_536):
            yield bytes(65_536)

    await StreamingResponse(pieces())(scope, receive, send)


async def large(scope: Any, receive: Any, send: Any) -> None:
    await Response(bytes(LARGE))(scope, receive, send)


@RUNNERS
@pytest.mark.parametrize("app", [many, large], ids=["of many pieces", "of one piece"])
def test_an_answer_that_nobody_takes_is_given_up(run: Any, tmp_path: Path, app: Any) -> None:
    async def story() -> None:
        ended = asyncio.Event()

        class Noticing(Impatient):
            def connection_lost(self, exc: Exception | None) -> None:
                ended.set()
                super().connection_lost(exc)

        door = serve_admin_tls(app, "127.0.0.1:0", server([]).context, protocol=Noticing)
        async with door as address:
            _, writer = await connect(address, tmp_path)  # its reader takes 128 KiB and no more
            writer.write(ASKED)
            async with asyncio.timeout(20):
                await ended.wait()
            writer.transport.abort()

    run(story())


@RUNNERS
def test_an_answer_that_is_taken_slowly_comes_whole(run: Any, tmp_path: Path) -> None:
    async def story() -> int:
        door = serve_admin_tls(large, "127.0.0.1:0", server([]).context, protocol=Lenient)
        async with door as address:
            reader, writer = await connect(address, tmp_path)
            writer.write(ASKED)
            await reader.readuntil(b"\r\n\r\n")
            taken = 0
            while taken < LARGE:
                taken += len(await reader.readexactly(LARGE // 16))
                await asyncio.sleep(Impatient.patience / 5)
            writer.transport.abort()
            return taken

    assert run(story()) == LARGE


@RUNNERS
@pytest.mark.parametrize("narrow", [Narrow, NarrowInAll], ids=["of one address", "in all"])
def test_a_connection_too_many_is_hung_up_on_and_the_others_are_answered(
    tmp_path: Path, run: Any, narrow: type[Narrow]
) -> None:
    most = min(narrow.most, narrow.most_of_one)

    async def story() -> None:
        door = serve_admin_tls(shown, "127.0.0.1:0", server([]).context, protocol=narrow)
        async with door as address:
            held = []
            for _ in range(most):
                reader, writer = await connect(address, tmp_path)
                writer.write(ASKED)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
                held.append(writer)
            with pytest.raises(httpx.TransportError):
                await ask(address, context(tmp_path, None))
            held.pop().transport.abort()
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert await ask(address, context(tmp_path, None)) == 0
                        break
                    except httpx.TransportError:
                        await asyncio.sleep(0.02)
            for writer in held:
                writer.transport.abort()

    run(story())


@RUNNERS
def test_whoever_connects_and_does_not_shake_hands_is_hung_up_on(run: Any) -> None:
    async def story() -> bytes:
        context_ = server([]).context
        door = serve_admin_tls(shown, "127.0.0.1:0", context_, handshake_seconds=0.2)
        async with door as address:
            host, _, port = address.partition(":")
            with socket.create_connection((host, int(port))) as connection:
                connection.settimeout(20)
                return await asyncio.to_thread(connection.recv, 10)

    assert run(story()) == b""


def test_the_doors_wait_as_the_documents_say() -> None:
    assert (PatientProtocol.patience, PatientProtocol.stall) == (10, 60)
    assert (TlsProtocol.patience, TlsProtocol.most, TlsProtocol.most_of_one) == (10, 512, 64)


@pytest.mark.parametrize(
    ("one", "other", "are_the_same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_origin_is_an_address_or_a_network_of_ipv6(
    one: str, other: str, are_the_same: bool
) -> None:
    assert (origin(one) == origin(other)) is are_the_same
