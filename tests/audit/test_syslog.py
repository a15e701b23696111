"""Syslog over real sockets: what arrives, and what is said when nothing does."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from audit.syslog import SyslogTarget, framed, send, syslog_message
from meshca.demo.ports import free_port
from meshca.errors import Unavailable
from meshca.web import web_context
from tests.audit.syslog_server import collector
from tests.authz.tls_server import tls_files

NOW = datetime(2026, 11, 1, 12, 0, 0, 250, UTC)


def message(text: str = "two\nlines") -> bytes:
    return syslog_message(text, time=NOW, host="mesh ca\n", message_id="checkpoint")


def test_a_message_is_of_rfc_5424_and_names_cannot_leave_their_place() -> None:
    assert message("x") == (b"<109>1 2026-11-01T12:00:00.000250Z mesh_ca_ meshca - checkpoint - x")
    assert message("— é").endswith(b" - \xef\xbb\xbf\xe2\x80\x94 \xc3\xa9")
    assert framed(b"abc") == b"3 abc"


def test_tcp_delivers_every_message_whole() -> None:
    async def story() -> list[bytes]:
        async with collector() as kept:
            await send(SyslogTarget("tcp", "127.0.0.1", kept.port), [message(), message("3")])
            return kept.messages

    assert asyncio.run(story()) == [message(), message("3")]


def test_tls_delivers_to_the_collector_that_its_roots_verify(tmp_path: Path) -> None:
    roots, served = tls_files(tmp_path)

    async def story() -> list[bytes]:
        async with collector(served) as kept:
            context = web_context(roots.read_text())
            await send(SyslogTarget("tls", "127.0.0.1", kept.port, context), [message()])
            with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await send(SyslogTarget("tls", "127.0.0.1", kept.port, web_context()), [message()])
            return kept.messages

    assert asyncio.run(story()) == [message()]


def test_tls_that_demands_a_certificate_of_ours_is_a_failure_not_a_loss(tmp_path: Path) -> None:
    roots, served = tls_files(tmp_path)
    served.verify_mode = ssl.CERT_REQUIRED
    served.load_verify_locations(roots)

    async def story() -> None:
        async with collector(served) as kept:
            target = SyslogTarget("tls", "127.0.0.1", kept.port, web_context(roots.read_text()))
            with pytest.raises(Unavailable):
                await send(target, [message()])
            assert kept.messages == []

    asyncio.run(story())


def test_datagrams_arrive_over_udp_and_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local,
    ):
        udp.bind(("127.0.0.1", 0))
        local.bind(str(path))
        for receiver in (udp, local):
            receiver.settimeout(5)
        asyncio.run(send(SyslogTarget("udp", "127.0.0.1", udp.getsockname()[1]), [message()]))
        asyncio.run(send(SyslogTarget("unix", str(path)), [message()]))
        assert udp.recv(65536) == local.recv(65536) == message()


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_nobody_there_is_a_failure(transport: str, tmp_path: Path) -> None:
    target = (
        SyslogTarget("tcp", "127.0.0.1", free_port())
        if transport == "tcp"
        else SyslogTarget("unix", str(tmp_path / "nothing"))
    )
    with pytest.raises(Unavailable, match=f"syslog {transport}:"):
        asyncio.run(send(target, [message()]))


def test_a_collector_that_takes_nothing_is_given_up() -> None:
    async def story() -> None:
        held = asyncio.Event()

        async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await held.wait()
            writer.close()

        server = await asyncio.start_server(hold, "127.0.0.1", 0)
        target = SyslogTarget("tcp", "127.0.0.1", server.sockets[0].getsockname()[1])
        with pytest.raises(Unavailable, match=r"not taken within 0\.3 s"):
            await send(target, [message()], total_seconds=0.3)
        held.set()
        server.close()

    asyncio.run(story())


def test_a_message_that_no_datagram_holds_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as local:
        local.bind(str(tmp_path / "log"))
        with pytest.raises(Unavailable, match="larger than 60000 bytes"):
            asyncio.run(send(SyslogTarget("unix", str(tmp_path / "log")), [b"x" * 60_001]))
