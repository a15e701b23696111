"""Sinks and anchors at a real syslog collector: what is sent is what its archive has."""

import asyncio
import json
from pathlib import Path

import orjson

from audit.anchors.anchor import Published
from audit.anchors.syslog import SyslogAnchor
from audit.log import MAXIMUM_BODY_BYTES, Stored
from audit.note import verify_note
from audit.sinks.syslog import SyslogCollector
from audit.syslog import SyslogTarget
from tests.audit.anchors.notes import SmallLog
from tests.audit.export.entries import ATTACKS, an_entry, stored
from tests.audit.rsyslogd import rsyslogd
from tests.audit.sinks.world import ORIGIN, drain, sink_world
from tests.fakes import FakeClock

_BOM = "\ufeff"


def sink(port: int) -> SyslogCollector:
    target = SyslogTarget("tcp", "127.0.0.1", port)
    return SyslogCollector(target=target, host="ca-1", origin=ORIGIN, version="0.1.0")


def test_each_entry_is_one_line_of_the_archive(tmp_path: Path) -> None:
    async def story(port: int) -> list[Stored]:
        async with sink_world(tmp_path) as world:
            await world.fill(700)
            await drain(world.feed(sink(port)))
            return list(world.log.entries())

    with rsyslogd(tmp_path) as collector:
        entries = asyncio.run(story(collector.port))
        lines = collector.lines(len(entries))

    assert [line[:4] for line in lines] == [["110", "ca-1", "meshca", "issuance"]] * 700
    assert [orjson.loads(line[4]) for line in lines] == [each.document() for each in entries]


def test_no_text_of_a_stranger_becomes_another_message(tmp_path: Path) -> None:
    forged = "\n<110>1 2026-11-01T12:00:00Z ca-1 meshca - read - {}\x00\n19 <110>1 - - - - - x"
    said = [*ATTACKS.values(), forged]
    entries = [stored(an_entry(reason=text, number=n), n) for n, text in enumerate(said)]
    huge = "\u0085<110>1 - ca-1 meshca - read - {} " * 1_500
    entries.append(stored(an_entry(details={"diff": huge}), len(said)))
    assert len(entries[-1].body or b"") > MAXIMUM_BODY_BYTES // 2

    with rsyslogd(tmp_path) as collector:
        asyncio.run(sink(collector.port).take(entries))
        lines = collector.lines(len(entries))

    assert [line[:4] for line in lines] == [["110", "ca-1", "meshca", "issuance"]] * len(entries)
    found = [orjson.loads(line[4].removeprefix(_BOM)) for line in lines]
    assert found == [each.document() for each in entries]


def test_an_anchored_note_comes_out_of_the_archive_whole(tmp_path: Path) -> None:
    log = SmallLog()

    with rsyslogd(tmp_path) as collector:
        target = SyslogTarget("tcp", "127.0.0.1", collector.port)
        anchor = SyslogAnchor(target=target, host="ca-1", clock=FakeClock())
        for size in (7, 9):
            asyncio.run(anchor.publish(log.at(size)))
        lines = collector.lines(2)

    assert [line[:4] for line in lines] == [["109", "ca-1", "meshca", "checkpoint"]] * 2
    for line, size in zip(lines, (7, 9), strict=True):
        said = json.loads(line[4])
        assert said["size"] == size
        verify_note(Published.parse(said["note"]).note, [log.key.verifier])
