"""An anchor at a syslog collector: what arrives is the whole note, a line a checkpoint."""

import asyncio
import json
from pathlib import Path

from audit.anchors.anchor import Published
from audit.anchors.syslog import SyslogAnchor
from audit.note import verify_note
from audit.syslog import SyslogTarget
from tests.audit.anchors.notes import SmallLog
from tests.audit.anchors.world import EVERY, anchored
from tests.audit.syslog_server import collector
from tests.fakes import FakeClock
from tests.stores import sqlite_engine

LOG = SmallLog()


def test_a_note_arrives_as_one_line_that_holds_it_whole() -> None:
    async def story() -> bytes:
        async with collector() as kept:
            target = SyslogTarget("tcp", "127.0.0.1", kept.port)
            await SyslogAnchor(target=target, host="ca-1", clock=FakeClock()).publish(LOG.at(7))
            return kept.messages[0]

    message = asyncio.run(story())
    head, _, text = message.partition(b"{")
    assert head.startswith(b"<109>1 2026-11-01T12:00:00.000000Z ca-1 meshca - checkpoint - ")
    said = json.loads(b"{" + text)
    assert message.isascii()
    assert b"\n" not in message
    assert (said["origin"], said["size"]) == (LOG.origin, 7)
    assert said["root"] == LOG.root_at(7).hex()
    verify_note(Published.parse(said["note"]).note, [LOG.key.verifier])


def test_each_checkpoint_is_sent_once_and_again_only_when_it_failed(tmp_path: Path) -> None:
    async def story() -> None:
        with sqlite_engine(tmp_path) as engine:
            async with collector() as kept, anchored(engine, tmp_path) as world:
                target = SyslogTarget("tcp", "127.0.0.1", kept.port)
                anchor = SyslogAnchor(target=target, host="ca-1", clock=world.signed.clock)
                world.anchors = [anchor]
                world.restart()
                await world.grow()
                for _ in range(3):
                    await world.pass_time(EVERY)
                assert len(kept.messages) == 1
                world.restart()
                await world.pass_time(EVERY)
                assert len(kept.messages) == 1
                await world.grow()
                await world.pass_time(EVERY)
                assert len(kept.messages) == 2

    asyncio.run(story())
