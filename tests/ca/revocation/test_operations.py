"""Revoking and releasing: what each does, refuses and records."""

import asyncio
from datetime import timedelta

import pytest
import sqlalchemy as sa

from ca.revocation.operations import AUDITED_ONE_BY_ONE
from ca.revocation.reason import Reason
from ca.revocation.selector import Selector
from meshca.errors import Conflict, NotFound, RequestRefused
from tests.ca.revocation.nodes import GOOD, HOLD, play, revoke
from tests.ca.revocation.world import (
    AUTHORITY,
    ORDERS,
    WHO,
    World,
    fingerprint,
    intent,
    issue,
)


@pytest.mark.parametrize(
    ("said", "hit"),
    [
        ({"serial": "a1"}, {"a1"}),
        ({"fingerprint": fingerprint("a2")}, {"a2"}),
        ({"spiffe_id": ORDERS}, {"a1", "a2", "a3"}),
        ({"cluster": "prod-eu"}, {"a1", "a2", "a3"}),
        ({"namespace": "shop"}, {"a1", "a2", "a3"}),
        ({"service_account": "orders"}, {"a1", "a2", "a3"}),
        ({"pod_uid": "uid-1"}, {"a1", "a2", "a3"}),
        ({"node": "node-2"}, {"a2"}),
        ({"token_id": "token-3"}, {"a3"}),
        ({"authority_id": AUTHORITY}, {"a1", "a2", "a3"}),
        ({"namespace": "shop", "node": "node-1"}, {"a1"}),
        ({"node": "node-1", "namespace": "pay"}, set()),
        ({"fingerprint": fingerprint("a2"), "node": "node-1"}, set()),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_revokes_by(engine: sa.Engine, said: dict[str, str], hit: set[str]) -> None:
    async def story(world: World) -> None:
        outcome = await revoke(world, **said)

        assert {r.serial for r in outcome.hit} == hit == world.revoked()
        assert bool(outcome.decision) == bool(hit)

    play(engine, story)


def test_a_decision_is_kept_with_who_why_and_what_it_hit(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        outcome = await revoke(world, node="node-1")
        decision = world.operations.revocations.decision(outcome.decision)
        known = world.state.live()["a1"]
        (body,) = world.entries("revocation")
        assert body["fingerprint"] == fingerprint("a1")

        assert (decision.actor, decision.why, decision.reason) == ("uid:0", "INC-7", GOOD)
        assert (decision.selector, decision.count) == (Selector(node="node-1"), 1)
        assert not decision.is_open
        assert (known.reason, known.fingerprint) == (GOOD, fingerprint("a1"))
        assert (known.authority_id, known.decision) == (AUTHORITY, decision.decision)
        assert world.state.of_authority(AUTHORITY) == world.state.live()
        assert (body["serial"], body["actor"], body["reason"]) == ("a1", "uid:0", "INC-7")
        assert body["details"]["crl_reason"] == "keyCompromise"

    play(engine, story)


def test_only_what_is_alive_and_not_revoked_is_hit(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        await revoke(world, serial="a1")
        issue(engine, intent("b1", world.clock, not_after=world.clock.now()))
        outcome = await revoke(world, namespace="shop")

        assert {r.serial for r in outcome.hit} == {"a2", "a3"}

    play(engine, story)


def test_a_certificate_whose_signature_is_not_on_record_is_hit(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        issue(engine, intent("b1", world.clock, node="node-9"), sign=False)
        (hit,) = (await revoke(world, node="node-9")).hit

        assert (hit.serial, hit.fingerprint) == ("b1", "")

    play(engine, story)


def test_a_rehearsal_changes_nothing(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        outcome = await world.operations.rehearse(Selector(namespace="shop"), GOOD)

        assert (len(outcome.hit), outcome.decision) == (3, "")
        assert world.revoked() == set()
        assert world.entries("revocation") == []

    play(engine, story)


@pytest.mark.parametrize(
    ("said", "reason", "kind", "message"),
    [
        ({}, GOOD, RequestRefused, "that is not all"),
        ({"serial": "ff"}, GOOD, NotFound, "no certificate with serial ff"),
        ({"serial": "b1"}, GOOD, Conflict, "nothing left to revoke"),
        ({"serial": "a1"}, GOOD, Conflict, "is revoked already: keyCompromise, since"),
        ({"serial": "a1"}, HOLD, Conflict, "is revoked already: keyCompromise, since"),
        ({"serial": "a2"}, HOLD, Conflict, "is revoked already: certificateHold, since"),
        ({"spiffe_id": "spiffe://partner.test/a"}, GOOD, RequestRefused, "of trust domain partner"),
        ({"namespace": "shop"}, GOOD, Conflict, "say --yes-revoke-2"),
    ],
    ids=[
        "nothing", "an unknown serial", "an expired one", "twice", "a hold of what is revoked",
        "a hold twice", "another trust domain", "too many",
    ],
)  # fmt: skip
def test_refuses_to_revoke(
    engine: sa.Engine, said: dict[str, str], reason: Reason, kind: type[Exception], message: str
) -> None:
    async def story(world: World) -> None:
        issue(engine, intent("b1", world.clock, not_after=world.clock.now()))
        await revoke(world, serial="a1")
        await revoke(world, HOLD, serial="a2")
        before = len(world.entries("revocation"))
        with pytest.raises(kind, match=message):
            await revoke(world, reason, **said)

        assert world.revoked() == {"a1", "a2"}
        assert len(world.entries("revocation")) == before
        assert world.operations.revocations.open_decisions() == []

    play(engine, story, confirm_above=1)


@pytest.mark.parametrize(
    ("confirmed", "is_done"), [(None, False), (2, False), (4, False), (3, True)]
)
def test_many_need_exactly_the_right_number(
    engine: sa.Engine, confirmed: int | None, is_done: bool
) -> None:
    async def story(world: World) -> None:
        selector = Selector(namespace="shop")
        revoked = world.operations.revoke(selector, GOOD, confirmed=confirmed, **WHO)
        if is_done:
            await revoked
            assert len(world.revoked()) == 3
            return
        with pytest.raises(Conflict):
            await revoked
        assert world.revoked() == set()

    play(engine, story, confirm_above=2)


def test_a_wrong_number_is_refused_for_few_as_well(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        with pytest.raises(Conflict, match="2 certificates were confirmed, but 1"):
            await world.operations.revoke(Selector(serial="a1"), GOOD, confirmed=2, **WHO)
        assert world.revoked() == set()

    play(engine, story)


def test_a_hold_is_released_and_revoked_again(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        await revoke(world, HOLD, serial="a1")
        world.clock.advance(timedelta(minutes=1))
        await world.operations.release("00:A1", **WHO)
        assert world.revoked() == set()
        assert world.state.of_authority(AUTHORITY) == {}
        await revoke(world, GOOD, serial="a1")
        again = world.state.live()["a1"]

        assert (again.reason, again.released_at) == (GOOD, None)
        assert again.revoked_at == world.clock.now()
        whats = [e["details"]["what"] for e in world.entries("revocation")]
        assert whats == ["revoked", "released", "revoked"]

    play(engine, story)


def test_a_hold_becomes_final_and_keeps_its_date(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        await revoke(world, HOLD, namespace="shop")
        held = world.state.live()["a1"]
        world.clock.advance(timedelta(minutes=1))
        outcome = await revoke(world, GOOD, node="node-1")
        final = world.state.live()["a1"]

        assert [r.serial for r in outcome.hit] == ["a1"]
        assert (held.reason, final.reason) == (HOLD, GOOD)
        assert final.revoked_at == held.revoked_at
        assert final.revision > held.revision
        with pytest.raises(Conflict, match="that is for good"):
            await world.operations.release("a1", **WHO)
        assert world.revoked() == {"a1", "a2", "a3"}, "it was believed at no time"

    play(engine, story)


@pytest.mark.parametrize(
    ("serial", "kind", "message"),
    [
        ("a1", Conflict, "was revoked for keyCompromise: that is for good"),
        ("a2", Conflict, "a2 is not on hold"),
        ("a3", NotFound, "a3 is not revoked"),
        ("ff", NotFound, "ff is not revoked"),
    ],
    ids=["a permanent one", "twice", "one that is not revoked", "an unknown one"],
)
def test_refuses_to_release(
    engine: sa.Engine, serial: str, kind: type[Exception], message: str
) -> None:
    async def story(world: World) -> None:
        await revoke(world, serial="a1")
        await revoke(world, HOLD, serial="a2")
        await world.operations.release("a2", **WHO)
        with pytest.raises(kind, match=message):
            await world.operations.release(serial, **WHO)
        assert world.revoked() == {"a1"}

    play(engine, story)


def test_many_certificates_share_audit_entries_that_name_each(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        count = AUDITED_ONE_BY_ONE + 1
        issue(engine, *(intent(f"f{n:06x}", world.clock, node="big") for n in range(1, count + 1)))
        selector = Selector(node="big")
        await world.operations.revoke(selector, GOOD, confirmed=count, **WHO)
        bodies = world.entries("revocation")
        named = [serial for body in bodies for serial in body["details"]["serials"]]

        assert len(bodies) < count / 20
        assert sorted(named) == sorted(world.revoked())

    play(engine, story)


def test_two_who_revoke_the_same_at_once_do_it_once(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        outcomes = await asyncio.gather(
            *(revoke(world, namespace="shop") for _ in range(4)), return_exceptions=True
        )
        assert not any(isinstance(outcome, BaseException) for outcome in outcomes)
        assert world.revoked() == {"a1", "a2", "a3"}
        rows = world.operations.revocations.after(0, now=world.clock.now())
        assert len(rows) == 3
        assert world.operations.revocations.open_decisions() == []

    play(engine, story)
