"""Federated trust domains: added, refused, replaced and removed."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.bundle import NO_FEDERATION
from ca.federation.federation import MAXIMUM_DOMAINS
from ca.federation.store import Relation, read_all
from meshca.errors import NotFound, RequestRefused, StoreUnavailable, Unavailable
from tests.builders import TRUST_DOMAIN
from tests.ca.endpoints import ENDPOINT_ID, PARTNER, document
from tests.ca.federation_world import NEXT, OURS, SPIFFE, THEIRS, WEB, World, own_root, run


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
