"""Real collectors: OTLP over HTTP and TLS, syslog over TCP, TLS and a unix socket."""

import asyncio
import json
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from audit.log import Stored
from audit.merkle import leaf_hash
from audit.proto import otlp_logs_pb2 as otlp
from audit.sinks.feed import BatchRefused
from audit.sinks.otlp import OtlpCollector
from audit.sinks.syslog import SyslogCollector
from audit.syslog import SyslogTarget
from meshca.errors import Unavailable
from meshca.web import web_context
from tests.audit.export.entries import ATTACKS, TEXTS, an_entry, redacted, stored
from tests.audit.sinks.otlp_server import receiver
from tests.audit.sinks.world import ORIGIN, SinkWorld, drain, lost_by_siem, sink_world
from tests.audit.syslog_server import collector
from tests.authz.tls_server import tls_files
from tests.fakes import FakeClock

_MESSAGE = re.compile(rb"<(\d+)>1 (\S+) (\S+) (\S+) - (\S+) - (.*)", re.DOTALL)


def story(directory: Path, told: Any) -> Any:
    async def run() -> Any:
        async with sink_world(directory) as world:
            return await told(world)

    return asyncio.run(run())


def otlp_collector(port: int) -> OtlpCollector:
    url = f"http://127.0.0.1:{port}/v1/logs"
    return OtlpCollector(url=url, origin=ORIGIN, version="0.1.0", clock=FakeClock())


def answer_of(rejected: int, message: str = "") -> bytes:
    partial = otlp.ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
    return otlp.ExportLogsServiceResponse(partial_success=partial).SerializeToString()


def attributes(record: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value") or "") for a in record.attributes}


def test_an_entry_is_a_log_record(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> Any:
        async with receiver() as received:
            await world.fill(2, reason="grüße\u202e", kind="refusal", outcome="refused")
            await drain(world.feed(world.otlp(received.port)))
            return received, list(world.log.entries())

    received, entries = story(tmp_path, told)
    assert [body.encode() for body in received.bodies] == [stored.body for stored in entries]
    record = received.records[1]
    said = attributes(record)
    assert (said["meshca.audit.index"], said["meshca.audit.kind"]) == (1, "refusal")
    assert said["meshca.audit.leaf_hash"] == leaf_hash(record.body.string_value.encode()).hex()
    assert said["meshca.audit.reason"] == "grüße\u202e"
    assert record.time_unix_nano == entries[1].time_us * 1000
    assert (record.severity_number, record.severity_text) == (10, "LOW")
    assert received.resources[0]["meshca.audit.log"] == ORIGIN
    assert received.headers[0]["content-type"] == "application/x-protobuf"


def test_a_collector_behind_tls_and_a_token(tmp_path: Path) -> None:
    roots, served = tls_files(tmp_path)
    token = tmp_path / "token"
    token.write_text("secret-token\n")

    async def told(world: SinkWorld) -> Any:
        async with receiver(context=served) as received:
            await world.fill(1)
            context = web_context(roots.read_text())
            trusted = world.otlp(received.port, context=context, token_file=token)
            await drain(world.feed(trusted))
            stranger = world.otlp(received.port, context=web_context())
            with pytest.raises(Unavailable, match="does not answer"):
                await stranger.take(list(world.log.entries()))
            return received

    received = story(tmp_path, told)
    assert received.headers[0]["authorization"] == "Bearer secret-token"
    assert received.requests == 1


@pytest.mark.parametrize("status", [301, 401, 403, 404, 429, 500, 502, 503, 504])
def test_what_is_about_the_way_is_tried_again(status: int) -> None:
    async def told() -> None:
        async with receiver(lambda _: (status, b"")) as received:
            taker = otlp_collector(received.port)
            with pytest.raises(Unavailable, match=f"answers {status}"):
                await taker.take([stored(an_entry())])

    asyncio.run(told())


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_is_about_the_entries_is_not(status: int) -> None:
    async def told() -> None:
        async with receiver(lambda _: (status, b"\x1b[2Jtoo large")) as received:
            taker = otlp_collector(received.port)
            with pytest.raises(BatchRefused, match=f"answers {status}: .\\[2Jtoo large"):
                await taker.take([stored(an_entry())])

    asyncio.run(told())


def test_a_partial_success_is_a_gap_in_the_log(tmp_path: Path) -> None:
    def judge(records: Sequence[Any]) -> tuple[int, bytes]:
        return 200, answer_of(1, "too old") if len(records) == 3 else b""

    async def told(world: SinkWorld) -> Any:
        async with receiver(judge) as received:
            await world.fill(3)
            await drain(world.feed(world.otlp(received.port)))
            return world.log.get([3])[0].document()

    gap = story(tmp_path, told)
    assert gap["details"] == lost_by_siem(1, first=0, last=2)


@pytest.mark.parametrize("answer", [b"<html>", b"\xff" * 80_000])
def test_an_answer_that_is_no_otlp_is_tried_again(answer: bytes) -> None:
    async def told() -> None:
        async with receiver(lambda _: (200, answer)) as received:
            taker = otlp_collector(received.port)
            with pytest.raises(Unavailable):
                await taker.take([stored(an_entry())])

    asyncio.run(told())


def test_a_collector_that_comes_back_gets_what_it_missed(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> Any:
        async with receiver() as received:
            port = received.port
        await world.fill(30)
        feed = world.feed(world.otlp(port))
        for _ in range(3):
            assert await feed.step() >= 1
        async with receiver(port=port) as received:
            await drain(feed)
            return received.bodies

    assert len(story(tmp_path, told)) == 30


def syslog(port: int = 0, *, path: str = "", **more: Any) -> SyslogCollector:
    context = more.pop("context", None)
    transport: Any = "unix" if path else ("tls" if context else "tcp")
    target = SyslogTarget(transport, path or "127.0.0.1", port, context)
    return SyslogCollector(target=target, host="node-a", origin=ORIGIN, version="0.1.0", **more)


def test_a_message_an_entry_over_tcp(tmp_path: Path) -> None:
    async def told(world: SinkWorld) -> Any:
        async with collector() as received:
            await world.fill(700)
            await drain(world.feed(syslog(received.port)))
            return received.messages, list(world.log.entries())

    messages, entries = story(tmp_path, told)
    found = [match.groups() for message in messages if (match := _MESSAGE.fullmatch(message))]
    assert [orjson.loads(one[5]) for one in found] == [stored.document() for stored in entries]
    assert found[0][0] == b"110"  # facility 13, informational
    assert (found[0][1], found[0][2]) == (b"2026-11-01T12:00:00.123456Z", b"node-a")
    assert (found[0][3], found[0][4]) == (b"meshca", b"issuance")


def test_over_tls_as_cef(tmp_path: Path) -> None:
    roots, served = tls_files(tmp_path)
    context = web_context(roots.read_text())

    async def told(world: SinkWorld) -> Any:
        async with collector(served) as received:
            await world.fill(2)
            await drain(world.feed(syslog(received.port, context=context, format="cef")))
            return received.messages

    first, second = story(tmp_path, told)
    assert b" - CEF:0|meshca|meshca|0.1.0|issuance|" in first
    assert b"|externalId=1 " in second


def test_over_a_unix_socket_what_is_too_large_goes_without_its_body(tmp_path: Path) -> None:
    path = tmp_path / "log"

    async def told(world: SinkWorld) -> Any:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(str(path))
            listening.setblocking(False)
            await world.fill(1)
            await world.fill(1, details={str(n): "x" * 1_900 for n in range(33)})
            await drain(world.feed(syslog(path=str(path))))
            await drain(world.feed(syslog(path=str(path))))  # the gap, which came of it
            return [listening.recv(1 << 20) for _ in range(3)], world.log.head().size

    (first, second, third), size = story(tmp_path, told)
    assert b'"index":0' in first
    assert b'"redacted":true' in second
    assert b'"reason":"sink_refused"' in third
    assert size == 3


@pytest.mark.parametrize("format_", ["json", "cef"])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_no_text_makes_another_message(format_: Any, attack: str) -> None:
    for field in TEXTS:
        one = stored(an_entry(**{field: attack}))
        message = syslog(format=format_).message(one)
        text = message.partition(b" - issuance - ")[2].removeprefix(b"\xef\xbb\xbf").decode()
        assert text.isprintable()
        if format_ == "json":
            assert json.loads(text) == one.document()


def test_a_redacted_entry_says_so() -> None:
    one: Stored = redacted(stored(an_entry()))
    text = syslog().message(one).partition(b" - issuance - ")[2]
    assert orjson.loads(text) == {"index": 7, "leaf_hash": one.leaf_hash.hex(), "redacted": True}


def test_a_collector_that_is_away_is_unavailable() -> None:
    async def told() -> None:
        async with collector() as received:
            port = received.port
        with pytest.raises(Unavailable, match="syslog tcp:127"):
            await syslog(port).take([stored(an_entry())])

    asyncio.run(told())
