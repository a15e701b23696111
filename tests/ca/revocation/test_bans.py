"""Bans: who is banned, for how long, and what is revoked with it."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from ca.revocation.operations import BanRequest
from ca.revocation.selector import Selector
from meshca.errors import Conflict, NotFound, RequestRefused
from tests.ca.revocation.nodes import GOOD, HOUR, play
from tests.ca.revocation.world import (
    AUTHORITY,
    WHO,
    World,
    caller,
    fingerprint,
    intent,
)


def test_a_ban_comes_with_a_revocation_and_outlasts_it(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        selector, until = Selector(node="node-1"), world.clock.now() + 2 * HOUR
        outcome = await world.operations.revoke(selector, GOOD, ban=BanRequest(until), **WHO)
        (ban,) = world.state.bans
        (entry,) = world.entries("ban")

        assert world.revoked() == {"a1"}
        assert (ban.selector, ban.until, ban.why) == (selector, until, "INC-7")
        assert ban == outcome.ban
        assert world.state.ban_of(caller(world.clock, node="node-1")) == ban
        assert entry["details"]["selector"] == {"node": "node-1"}

    play(engine, story)


def test_a_ban_that_hits_no_certificate_holds(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        selector = Selector(node="node-9")
        outcome = await world.operations.revoke(selector, GOOD, ban=BanRequest(), **WHO)

        assert (list(outcome.hit), world.state.bans) == ([], [outcome.ban])

    play(engine, story)


def test_what_was_issued_while_a_ban_came_is_revoked_too(engine: sa.Engine) -> None:
    """The moment between looking and banning: a caller that renews all the time gains nothing."""

    async def story(world: World) -> None:
        late = [intent("b1", world.clock, node="node-1")]
        world.state.subscribe(lambda: world.writer.enqueue(late.pop()) if late else None)
        outcome = await world.operations.revoke(
            Selector(node="node-1"), GOOD, ban=BanRequest(), **WHO
        )

        assert {r.serial for r in outcome.hit} == {"a1", "b1"} == world.revoked()
        assert world.operations.revocations.decision(outcome.decision).count == 2

    play(engine, story)


def test_a_ban_alone_leaves_certificates_alone(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        ban = await world.operations.ban(Selector(node="node-1"), BanRequest(), **WHO)

        assert world.revoked() == set()
        assert world.state.bans == [ban]
        assert len(world.entries("ban")) == 1

    play(engine, story)


@pytest.mark.parametrize(
    ("said", "ends_in", "message"),
    [
        ({}, None, "a ban needs who is banned"),
        ({"serial": "a1"}, None, "and not serial"),
        ({"node": "n", "fingerprint": fingerprint("a1")}, None, "and not fingerprint"),
        ({"node": "n", "authority_id": AUTHORITY}, None, "and not authority_id"),
        ({"spiffe_id": "spiffe://partner.test/a"}, None, "of trust domain partner.test"),
        ({"node": "n"}, timedelta(0), "has ended already"),
    ],
    ids=["nobody", "serial", "fingerprint", "authority", "another trust domain", "already ended"],
)
def test_refuses_to_ban(
    engine: sa.Engine, said: dict[str, str], ends_in: timedelta | None, message: str
) -> None:
    async def story(world: World) -> None:
        until = None if ends_in is None else world.clock.now() + ends_in
        with pytest.raises(RequestRefused, match=message):
            await world.operations.ban(Selector(**said), BanRequest(until), **WHO)
        assert world.state.bans == []
        assert world.entries("ban") == []

    play(engine, story)


def test_a_ban_that_cannot_be_meant_revokes_nothing(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        for attempt in (world.operations.rehearse, world.operations.revoke):
            more = {} if attempt == world.operations.rehearse else WHO
            with pytest.raises(RequestRefused, match="and not serial"):
                await attempt(Selector(serial="a1"), GOOD, ban=BanRequest(), **more)
        assert world.revoked() == set()

    play(engine, story)


def test_a_ban_is_lifted_once(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        ban = await world.operations.ban(Selector(node="node-1"), BanRequest(), **WHO)
        await world.operations.lift(ban.ban, actor="uid:1", why="clean")
        with pytest.raises(Conflict, match="was lifted already"):
            await world.operations.lift(ban.ban, **WHO)

        assert world.state.ban_of(caller(world.clock, node="node-1")) is None
        (kept,) = world.operations.revocations.bans()
        assert kept.lifted_at == world.clock.now()
        details = world.entries("ban")
        assert [(d["details"]["what"], d["actor"]) for d in details] == [
            ("banned", "uid:0"), ("lifted", "uid:1"),
        ]  # fmt: skip

    play(engine, story)


def test_refuses_to_lift_what_has_ended_or_never_was(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        until = world.clock.now() + HOUR
        ban = await world.operations.ban(Selector(node="n"), BanRequest(until), **WHO)
        world.clock.advance(HOUR)
        with pytest.raises(Conflict, match=f"ban {ban.ban} ended at"):
            await world.operations.lift(ban.ban, **WHO)
        with pytest.raises(NotFound, match="there is no ban"):
            await world.operations.lift("0" * 16, **WHO)
        assert len(world.entries("ban")) == 1

    play(engine, story)


def test_a_ban_never_ends_before_its_time(engine: sa.Engine) -> None:
    async def story(world: World) -> None:
        until = world.clock.now() + timedelta(seconds=10, microseconds=1)
        await world.operations.ban(Selector(node="node-1"), BanRequest(until), **WHO)
        world.clock.advance(timedelta(seconds=10))
        assert world.state.ban_of(caller(world.clock)) is not None

    play(engine, story)
