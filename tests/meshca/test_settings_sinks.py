"""The configuration of sinks: what it may say, and what is built from it."""

import asyncio
from pathlib import Path

import pytest

from audit.log import Log
from audit.sinks.otlp import OtlpCollector
from audit.sinks.syslog import SyslogCollector
from meshca.errors import Unavailable
from meshca.metrics import Metrics
from meshca.name_locks import open_name_locks
from meshca.settings import Settings
from meshca.wiring_sinks import build_sinks, loops_of
from tests.fakes import FakeClock
from tests.meshca.configuration import GOOD, loaded, problems
from tests.stores import sqlite_engine, writer_of

OTEL = "https://otel.example.org:4318/v1/logs"


def with_sinks(*sinks: str) -> str:
    return GOOD + "audit:\n  sinks:\n" + "".join(f"    - {sink}\n" for sink in sinks)


def built(directory: Path, settings: Settings) -> list[object]:
    async def story() -> list[object]:
        with sqlite_engine(directory) as engine:
            async with writer_of(engine) as writer:
                sinks = build_sinks(
                    settings,
                    log=Log(engine),
                    writer=writer,
                    locks=open_name_locks(engine),
                    clock=FakeClock(),
                    metrics=Metrics(),
                )
                assert set(loops_of(sinks)) == {f"sink {sink.name}" for sink in sinks}
                return [sink.collector for sink in sinks]

    return asyncio.run(story())


def test_each_place_becomes_its_collector(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    settings = loaded(
        tmp_path,
        with_sinks(
            f"{{name: siem, otlp: {{url: '{OTEL}', token_file: token}}}}",
            "{name: here, otlp: {url: 'http://127.0.0.1:4318/v1/logs'}}",
            "{name: archive, begin: now, syslog: {address: 'logs:6514', format: cef}}",
            "{name: local, syslog: {socket: /dev/log}}",
        ),
    )
    siem, here, archive, local = built(tmp_path, settings)
    assert isinstance(siem, OtlpCollector)
    assert siem.context is not None
    assert (siem.origin, siem.token_file) == ("example.org/meshca/audit", tmp_path / "token")
    assert isinstance(here, OtlpCollector)
    assert here.context is None
    assert isinstance(archive, SyslogCollector)
    assert (str(archive.target), archive.format) == ("tls:logs:6514", "cef")
    assert isinstance(local, SyslogCollector)
    assert str(local.target) == "unix:/dev/log"
    assert [sink.begin for sink in settings.audit.sinks] == ["first", "first", "now", "first"]


def test_roots_that_are_none_do_not_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no roots")
    text = with_sinks(f"{{name: siem, otlp: {{url: '{OTEL}', ca_file: ca.pem}}}}")
    with pytest.raises(Unavailable, match=r"audit\.sinks: .*ca\.pem holds no roots"):
        built(tmp_path, loaded(tmp_path, text))


SINGLE = {
    "nothing": ("{name: a}", "", "exactly one of `otlp` and `syslog`"),
    "two places": (
        f"{{name: a, otlp: {{url: '{OTEL}'}}, syslog: {{socket: s}}}}",
        "",
        "exactly one of `otlp` and `syslog`",
    ),
    "in the clear": (
        "{name: a, otlp: {url: 'http://otel:4318/v1/logs'}}",
        ".otlp",
        "must be https",
    ),
    "roots for nothing": (
        "{name: a, otlp: {url: 'http://localhost:4318/v1/logs', ca_file: ca.pem}}",
        ".otlp",
        "belongs to https",
    ),
    "udp": ("{name: a, syslog: {address: 'l:514', transport: udp}}", ".syslog", "loses entries"),
    "a name": ("{name: 'a b', syslog: {socket: s}}", ".name", "should match pattern"),
    "begin": ("{name: a, begin: later, syslog: {socket: s}}", ".begin", "'first' or 'now'"),
}


@pytest.mark.parametrize(("sink", "path", "message"), SINGLE.values(), ids=SINGLE)
def test_refuses_for_this_reason_only(tmp_path: Path, sink: str, path: str, message: str) -> None:
    ((at, line, said),) = problems(tmp_path, with_sinks(sink))
    assert (at, line) == (f"audit.sinks[0]{path}", 11)
    assert message in said


def test_two_sinks_of_one_name_are_refused(tmp_path: Path) -> None:
    sink = "{name: siem, syslog: {socket: s}}"
    ((path, _, message),) = problems(tmp_path, with_sinks(sink, sink))
    assert (path, message) == ("audit", "two sinks have the name siem")
