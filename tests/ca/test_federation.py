"""Federated trust domains: added, fetched, kept and removed; what a bad bundle cannot do."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.authority import Authorities
from ca.bundle import NO_FEDERATION
from ca.federation.federation import MAXIMUM_DOMAINS, Federation
from ca.federation.member import Member
from ca.federation.store import Relation, read_all
from meshca.database import GroupWriter
from meshca.errors import NotFound, RequestRefused, StoreUnavailable, Unavailable
from meshca.metrics import Metrics
from tests.builders import TRUST_DOMAIN, make_pki
from tests.ca.endpoints import ENDPOINT_ID, PARTNER, FakeEndpoints, document
from tests.fakes import FakeClock
from tests.stores import sqlite_engine, writer_of

OURS = make_pki(number=1)
THEIRS = make_pki(trust_domain=PARTNER, number=2)
NEXT = make_pki(trust_domain=PARTNER, number=3)
THIRD = make_pki(trust_domain="third.test", number=4)
WEB = Relation(PARTNER, "https://mesh.partner.test/bundle.json", "https_web")
SPIFFE = replace(WEB, profile="https_spiffe", endpoint_id=ENDPOINT_ID)


@dataclass
class World:
    """A federation on a real database, with endpoints as the test says."""

    federation: Federation
    endpoints: FakeEndpoints
    clock: FakeClock
    metrics: Metrics
    writer: GroupWriter
    changes: list[frozenset[str]]

    async def add(self, relation: Relation = WEB, seed: bytes = b"", **more: Any) -> Member:
        """Federate, as an operator does."""
        given = {"actor": "uid:0", "reason": "CHG-7", "replaces": False, **more}
        return await self.federation.add(relation, seed, **given)

    def roots(self, name: str = PARTNER) -> list[Any]:
        """Return the roots that proxies are told of."""
        bundle = self.federation.current().bundles.get(name)
        return [] if bundle is None else list(bundle.roots)

    def entries(self) -> list[dict[str, Any]]:
        """Return the audit entries of federation, the oldest first."""
        query = "SELECT body FROM audit_entries WHERE kind = 'federation_change' ORDER BY sequence"
        with self.federation.engine.connect() as connection:
            return [orjson.loads(row.body) for row in connection.exec_driver_sql(query)]

    def sample(self, name: str, **labels: str) -> float | None:
        """Return a metric's value."""
        return self.metrics.registry.get_sample_value(name, {"trust_domain": PARTNER, **labels})


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """Run a federation whose partner publishes its bundle; load what the database has."""
    clock, metrics, authorities = FakeClock(), Metrics(), Authorities(TRUST_DOMAIN)
    authorities.activate(OURS.authority(), (OURS.root,))
    endpoints = FakeEndpoints({PARTNER: document(THEIRS)})
    with sqlite_engine(directory) as engine:
        async with writer_of(engine) as writer:
            federation = Federation(
                trust_domain=TRUST_DOMAIN,
                own=lambda: authorities.bundle,
                endpoints=endpoints,
                engine=engine,
                writer=writer,
                clock=clock,
                metrics=metrics,
            )
            changes: list[frozenset[str]] = []
            federation.subscribe(lambda: changes.append(frozenset(federation.current().bundles)))
            await federation.load()
            yield World(federation, endpoints, clock, metrics, writer, changes)


def run(directory: Path, story: Callable[[World], Awaitable[None]]) -> None:
    async def within() -> None:
        async with world(directory) as w:
            await story(w)

    asyncio.run(within())


def test_a_domain_is_fetched_when_it_is_added_and_audited_with_who_and_why(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        member = await w.add()

        assert member.last_error == ""
        assert w.roots() == [THEIRS.root]
        assert w.changes == [frozenset(), frozenset({PARTNER})]  # known first, then trusted
        added, bundle = w.entries()
        assert (added["actor"], added["reason"]) == ("uid:0", "CHG-7")
        assert added["details"]["change"] == "added"
        assert (bundle["actor"], bundle["details"]["sequence"]) == ("meshca", 1)
        assert w.sample("meshca_federation_polls_total", outcome="ok") == 1

    run(tmp_path, story)


def test_without_a_federation_there_is_nothing(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        assert w.federation.current() is NO_FEDERATION

    run(tmp_path, story)


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


def own_root() -> bytes:
    return document(make_pki(trust_domain=PARTNER, number=1), 9)  # the key of OURS


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


@pytest.mark.parametrize(
    ("relation", "seed", "reason"),
    [
        (replace(WEB, trust_domain=TRUST_DOMAIN), b"", "own_trust_domain"),
        (replace(WEB, trust_domain="Partner.test"), b"", "invalid"),
        (replace(WEB, url="http://x/"), b"", "invalid"),
        (replace(WEB, endpoint_id=ENDPOINT_ID), b"", "invalid"),
        (replace(WEB, web_roots="not PEM"), b"", "malformed"),
        (replace(SPIFFE, endpoint_id="spiffe://partner.test"), b"", "invalid"),
        (replace(SPIFFE, endpoint_id=""), b"", "invalid"),
        (replace(SPIFFE, web_roots="x"), b"", "invalid"),
        (SPIFFE, b"", "no_seed"),
        (SPIFFE, b"junk", "malformed"),
        (SPIFFE, OURS.root.public_bytes(Encoding.PEM), "foreign_root"),
        (SPIFFE, own_root(), "shared_root"),
    ],
    ids=[
        "ourselves", "not a trust domain", "plain HTTP", "web with an ID", "web with bad roots",
        "an ID without path", "no ID", "spiffe with web roots", "no seed", "a bad seed",
        "a seed of ours", "a seed with our key",
    ],
)  # fmt: skip
def test_refuses_to_federate(tmp_path: Path, relation: Relation, seed: bytes, reason: str) -> None:
    async def story(w: World) -> None:
        with pytest.raises(RequestRefused) as refused:
            await w.add(relation, seed)

        assert refused.value.reason == reason
        assert read_all(w.federation.engine) == []
        assert w.endpoints.asked == []

    run(tmp_path, story)


def test_a_domain_is_not_replaced_by_accident(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.add()
        elsewhere = replace(WEB, url="https://evil.test/")
        with pytest.raises(RequestRefused) as refused:
            await w.add(elsewhere)
        assert refused.value.reason == "exists"

        member = await w.add(elsewhere, replaces=True)

        assert member.relation == elsewhere
        assert w.roots() == [THEIRS.root]
        assert "replaced" in [entry["details"]["change"] for entry in w.entries()]

    run(tmp_path, story)


def test_a_number_that_fell_is_accepted_after_an_operator_gave_the_bundle(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        w.endpoints.answers[PARTNER] = document(THEIRS, 100)
        await w.add()
        w.endpoints.answers[PARTNER] = document(NEXT, 3)
        assert (await w.federation.refresh(PARTNER)).last_error != ""

        member = await w.add(WEB, document(NEXT, 3), replaces=True)

        assert member.last_error == ""
        assert w.roots() == [NEXT.root]

    run(tmp_path, story)


def test_a_removed_domain_is_trusted_no_longer_also_after_a_restart(tmp_path: Path) -> None:
    async def before(w: World) -> None:
        await w.add()
        await w.federation.remove(PARTNER, actor="uid:0", reason="CHG-9")

        assert w.roots() == []
        assert w.federation.current().without_roots == {PARTNER}
        assert w.sample("meshca_federation_stale") is None
        assert w.entries()[-1]["details"]["change"] == "removed"
        assert w.entries()[-1]["reason"] == "CHG-9"
        with pytest.raises(NotFound):
            await w.federation.refresh(PARTNER)

    async def after(w: World) -> None:
        assert w.federation.members() == []
        assert w.federation.current().without_roots == {PARTNER}

    run(tmp_path, before)
    run(tmp_path, after)


def test_nothing_is_trusted_that_could_not_be_recorded(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        await w.add()
        with w.federation.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE audit_entries")
        w.endpoints.answers[PARTNER] = document(NEXT, 2)
        member = await w.federation.refresh(PARTNER)

        assert "database" in member.last_error
        assert w.roots() == [THEIRS.root]
        with pytest.raises(StoreUnavailable):
            await w.federation.remove(PARTNER, actor="uid:0", reason="x")
        assert w.roots() == [THEIRS.root]

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


def test_domains_are_bounded(tmp_path: Path) -> None:
    async def story(w: World) -> None:
        for number in range(MAXIMUM_DOMAINS):
            name = f"td{number}.test"
            w.endpoints.answers[name] = Unavailable("not yet")
            await w.add(replace(WEB, trust_domain=name))
        with pytest.raises(RequestRefused) as refused:
            await w.add()
        assert refused.value.reason == "too_many"

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
