"""A report reads the log itself: no index, however forged, leaves anything out of it."""

from datetime import timedelta
from pathlib import Path

import orjson

from audit.entry import Entry
from audit.index.blocks import encode_block
from audit.index.building import SMALL
from audit.index.indexer import Indexer
from audit.log import Log
from audit.query import Query, count
from meshca.metrics import Metrics
from meshca.name_locks import open_name_locks
from tests.admin.test_questions import Asked, ask
from tests.admin.world import World
from tests.audit.tampering import execute, rebuild_tree, rewrite


async def indexed(world: World) -> None:
    """Bring the index up to the log."""
    locks = open_name_locks(world.engine)
    try:
        indexer = Indexer(
            log=Log(world.engine), writer=world.writer, locks=locks, metrics=Metrics()
        )
        await indexer.look()
    finally:
        locks.close()


async def banned(asked: Asked) -> dict[str, str]:
    """Fill a segment of the index with entries, and a ban among them; return their period."""
    world = asked.world
    since = world.clock.now()
    others = (
        Entry(time=since, kind="refusal", outcome="refused", reason="expired") for _ in range(SMALL)
    )
    await world.writer.submit(
        Entry(time=since, kind="ban", outcome="done", actor="uid:0", reason="INC-7"), *others
    )
    world.clock.advance(timedelta(minutes=1))
    until = world.clock.now()
    await world.state.signer.step()
    await world.state.signer.step()
    return {"since": since.isoformat(), "until": until.isoformat()}


def test_an_index_that_hides_an_entry_hides_it_from_no_report(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        world, period = asked.world, await banned(asked)
        await indexed(world)
        empty = encode_block([], {})
        execute(world.engine, "UPDATE audit_postings SET lists = :b", b=empty)
        assert count(world.engine, Query(kind="ban")).count == 0, "the index hides it"

        wrong = (await asked.post("/audit/verify", index=True))["index"]["wrong"]
        assert [one["first_index"] for one in wrong] == [0], "and who asks is told"
        unasked = await asked.post("/audit/verify")
        assert (unasked["intact"], unasked["index"]) == (True, None)

        report = orjson.loads((await asked.post("/audit/report", **period))["report.json"])

        assert [one["reason"] for one in report["exceptions"]] == ["INC-7"]
        assert report["summary"]["counts"]["ban"] == 1
        assert report["outcomes"]["counts"]["refused"] == SMALL
        assert report["refusals_by_reason"]["counts"] == {"expired": SMALL}
        assert report["completeness"]["entries"] == report["summary"]["total"] > SMALL

    ask(tmp_path, story)


def test_no_report_is_made_of_a_log_that_is_not_what_was_signed(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        world, period = asked.world, await banned(asked)
        at = next(one.index for one in world.state.log.entries() if one.kind == "ban")
        rewrite(world.engine, at, reason="nothing of note")
        rebuild_tree(world.engine)

        refused = await world.client.post("/audit/report", json=period)

        assert refused.status_code == 409
        assert "`meshca audit verify` names the first" in refused.json()["error"]["message"]

    ask(tmp_path, story)


def test_what_is_redacted_is_in_the_report_with_what_is_left_of_it(tmp_path: Path) -> None:
    async def story(asked: Asked) -> None:
        world, period = asked.world, await banned(asked)
        execute(world.engine, "UPDATE audit_entries SET body = NULL WHERE kind = 'ban'")

        made = await asked.post("/audit/report", **period)

        report = orjson.loads(made["report.json"])
        assert [one["redacted"] for one in report["exceptions"]] == [True]
        assert report["completeness"]["redacted"] == 1
        assert report["summary"]["counts"]["ban"] == 1
        assert "1 of them are redacted" in made["report.html"]

    ask(tmp_path, story)
