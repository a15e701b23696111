"""GET /audit/anchors: each anchor as it stands, and what the witness has seen."""

import asyncio
from datetime import timedelta
from pathlib import Path

from audit.anchors.plan import OutsidePlan
from audit.anchors.store import AnchorState
from audit.witness.store import Advance, Seen
from tests.admin.world import running
from tests.audit.anchors.notes import SmallLog
from tests.fakes import FakeClock

MINUTE = timedelta(minutes=1)
NOW = FakeClock().now()


def test_each_anchor_says_how_it_stands_and_how_far_it_is_behind(tmp_path: Path) -> None:
    names = ("new", "well", "failing", "contradicted")
    plan = OutsidePlan([(name, MINUTE) for name in names])

    async def story() -> None:
        async with running(tmp_path, outside=plan) as world:
            await world.state.signer.step()  # it begins the log with its key
            await world.state.signer.step()
            size = (await world.get("/audit/checkpoint"))["size"]
            await world.writer.submit(
                AnchorState("well", size, NOW),
                AnchorState("failing", 0, None, 3, NOW, "gone"),
                AnchorState("contradicted", 0, NOW, 1, NOW, "rewritten", is_contradicted=True),
                AnchorState("not configured any more", 1, NOW),
            )

            answer = await world.get("/audit/anchors")

            assert [(a["anchor"], a["state"], a["behind"]) for a in answer["anchors"]] == [
                ("new", "new", size),
                ("well", "well", 0),
                ("failing", "failing", size),
                ("contradicted", "contradicted", size),
            ]
            failing = answer["anchors"][2]
            assert (failing["failures"], failing["problem"]) == (3, "gone")
            assert failing["failing_since"] == "2026-11-01T12:00:00Z"
            assert failing["every_seconds"] == 60
            assert answer["witness"] is None
            assert "docs/runbooks" in failing["advice"]
            assert "meshca audit verify" in answer["anchors"][3]["advice"]

            short = (await world.get("/status"))["audit"]["anchors"]
            left_out = {"every_seconds", "failures"}
            assert short == [
                {key: value for key, value in each.items() if key not in left_out}
                for each in answer["anchors"]
            ]

    asyncio.run(story())


def test_a_witness_says_what_it_has_seen_of_each_log(tmp_path: Path) -> None:
    plan = OutsidePlan((), "w+00000000+key", ("seen.test/log", "unseen.test/log"))
    checkpoint = SmallLog().at(5)

    async def story() -> None:
        async with running(tmp_path, outside=plan) as world:
            after = Seen(5, checkpoint.checkpoint.root, str(checkpoint.note))
            await world.writer.submit(Advance("seen.test/log", Seen(), after, NOW))

            witness = (await world.get("/audit/anchors"))["witness"]

            assert witness["key"] == "w+00000000+key"
            assert witness["logs"] == [
                {"origin": "seen.test/log", "size": 5, "seen_at": "2026-11-01T12:00:00Z"},
                {"origin": "unseen.test/log", "size": 0, "seen_at": None},
            ]

    asyncio.run(story())
