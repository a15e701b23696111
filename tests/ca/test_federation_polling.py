"""Bundles that are fetched, kept and replaced; what a bad one cannot do."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshca.errors import RequestRefused, Unavailable
from tests.builders import make_pki
from tests.ca.endpoints import PARTNER, document
from tests.ca.federation_world import (
    NEXT,
    OURS,
    SPIFFE,
    THEIRS,
    THIRD,
    WEB,
    World,
    own_root,
    run,
    world,
)


def test_the_last_good_bundle_survives_a_restart_without_the_endpoint(tmp_path: Path) -> None:
    async def before(w: World) -> None:
        await w.add()

    async def after(w: World) -> None:
        w.endpoints.answers[PARTNER] = Unavailable("nobody there")
        assert w.roots() == [THEIRS.root]
        (member,) = w.federation.members()
        assert member.relation == WEB
        assert (await w.federation.refresh(PARTNER)).last_error == "nobody there"
        assert w.roots() == [THEIRS.root]

    run(tmp_path, before)
    run(tmp_path, after)


def test_a_newer_bundle_takes_the_place_of_the_one_held(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.add()
        w.endpoints.answers[PARTNER] = document(NEXT, 2)
        await w.federation.refresh(PARTNER)

        assert w.roots() == [NEXT.root]
        details = w.entries()[-1]["details"]
        assert details["before"] != details["roots"]

    run(tmp_path, story)


def test_the_same_bundle_again_is_no_change(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.add()
        entries, changes = w.entries(), list(w.changes)
        w.clock.advance(timedelta(minutes=5))
        await w.federation.refresh(PARTNER)

        assert (w.entries(), w.changes) == (entries, changes)
        assert w.sample("meshca_federation_refreshed_timestamp_seconds") == (
            w.clock.now().timestamp()
        )

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (document(NEXT, 4), "offers bundle 4; 5 is held"),
        (document(NEXT, 5), "under the number held"),
        (orjson.dumps({"keys": []}), "offers bundle None"),
        (own_root(), "is also another trust domain's"),
        (document(OURS, 9), "not of trust domain partner.test"),
        (b"<html>", "not JSON"),
    ],
    ids=["older", "number reused", "number lost", "our own root", "our own bundle", "not a bundle"],
)
def test_the_last_good_bundle_stays_when_the_next_one_is(
    tmp_path: Path, answer: bytes, reason: str
) -> None:
    async def story(w: World) -> None:
        w.endpoints.answers[PARTNER] = document(THEIRS, 5)
        await w.add()
        entries = w.entries()
        w.endpoints.answers[PARTNER] = answer
        member = await w.federation.refresh(PARTNER)

        assert reason in member.last_error
        assert w.roots() == [THEIRS.root]
        assert w.entries() == entries
        assert w.sample("meshca_federation_polls_total", outcome="refused") == 1

    run(tmp_path, story)


def test_a_root_of_another_federated_domain_is_refused(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.add()
        shared = make_pki(trust_domain="third.test", number=2)  # the key of THEIRS
        w.endpoints.answers["third.test"] = document(shared, 1, "third.test")
        member = await w.add(replace(WEB, trust_domain="third.test"))

        assert "is also another trust domain's" in member.last_error
        assert w.roots("third.test") == []

    run(tmp_path, story)


def test_an_emptied_bundle_ends_the_trust_but_not_the_relation(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.add()
        w.endpoints.answers[PARTNER] = orjson.dumps({"spiffe_sequence": 2, "keys": []})
        await w.federation.refresh(PARTNER)

        assert w.roots() == []
        assert w.federation.current().without_roots == {PARTNER}

    run(tmp_path, story)


def test_https_spiffe_is_verified_by_the_seed_and_then_by_the_bundle_held(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        seed = THEIRS.root.public_bytes(Encoding.PEM)
        both = orjson.loads(document(THEIRS, 2))
        both["keys"] += orjson.loads(document(NEXT))["keys"]
        w.endpoints.answers[PARTNER] = orjson.dumps(both)
        await w.add(SPIFFE, seed)
        await w.federation.refresh(PARTNER)

        first, second = (roots for _, roots in w.endpoints.asked)
        assert first == (THEIRS.root,)
        assert second == (THEIRS.root, NEXT.root)

    run(tmp_path, story)


def test_https_spiffe_in_a_third_domain_is_verified_by_that_domains_bundle(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        w.endpoints.answers["third.test"] = document(THIRD, 1, "third.test")
        elsewhere = replace(SPIFFE, endpoint_id="spiffe://third.test/publisher")
        with pytest.raises(RequestRefused, match=r"federate with third\.test first"):
            await w.add(elsewhere)
        await w.add(replace(WEB, trust_domain="third.test"))
        await w.add(elsewhere)

        assert w.endpoints.asked[-1] == (PARTNER, (THIRD.root,))

    run(tmp_path, story)


def test_a_bundle_is_stale_after_three_missed_refreshes(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        member = await w.add()
        w.endpoints.answers[PARTNER] = Unavailable("nobody there")
        w.clock.advance(timedelta(minutes=15))
        await w.federation.refresh(PARTNER)
        assert w.sample("meshca_federation_stale") == 0
        w.clock.advance(timedelta(seconds=1))
        await w.federation.refresh(PARTNER)

        assert member.is_stale(w.clock.now())
        assert w.sample("meshca_federation_stale") == 1
        assert w.roots() == [THEIRS.root]

    run(tmp_path, story)


def test_a_replica_takes_what_another_has_stored(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        async with world(tmp_path) as other:
            await w.add()
            await other.federation.load()
            assert other.roots() == [THEIRS.root]
            w.clock.advance(timedelta(minutes=5))
            w.endpoints.answers[PARTNER] = document(NEXT, 2)
            await w.federation.refresh(PARTNER)
            await other.federation.load()
            assert other.roots() == [NEXT.root]
            await w.federation.remove(PARTNER, actor="uid:0", reason="x")
            await other.federation.load()
            assert other.roots() == []
            assert other.endpoints.asked == []

    run(tmp_path, story)


def test_what_another_replica_fetched_under_the_old_relation_changes_nothing(
    tmp_path: Path,
) -> None:
    async def story(w: World) -> None:
        async with world(tmp_path) as other:
            await w.add()
            await other.federation.load()
            (late,) = other.federation.members()
            w.clock.advance(timedelta(seconds=5))
            w.endpoints.answers[PARTNER] = document(NEXT, 3)
            await w.add(WEB, document(NEXT, 3), replaces=True)

            other.clock.advance(timedelta(seconds=6))
            other.endpoints.answers[PARTNER] = document(THEIRS, 100)
            await other.federation._fetch(late)
            await w.federation.load()
            await other.federation.load()

            assert w.roots() == other.roots() == [NEXT.root]

    run(tmp_path, story)


def test_the_loop_fetches_at_the_hint_and_waits_longer_after_each_failure(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        member = await w.add()
        at_success = member.due - w.clock.monotonic()
        waits = []
        w.endpoints.answers[PARTNER] = Unavailable("nobody there")
        for _ in range(8):
            w.clock.advance(timedelta(seconds=max(member.due - w.clock.monotonic(), 0) + 0.01))
            await w.federation._tick()
            while w.federation._tasks:
                await asyncio.sleep(0)
            waits.append(member.due - w.clock.monotonic())

        assert 240 <= at_success <= 300
        assert 5 <= waits[0] <= 10  # never at once
        assert all(5 <= wait <= 300 for wait in waits)
        assert waits[-1] >= 150
        assert member.failures == 8

    run(tmp_path, story)
