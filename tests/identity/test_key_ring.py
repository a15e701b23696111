"""Keys kept current: one shared fetch, never too often, the last good ones through an outage."""

import asyncio
import threading
from datetime import timedelta

import pytest

from identity.key_ring import REFETCH_SECONDS
from meshca.errors import KeysUnavailable, ProofRefused
from tests.identity.builders import (
    EC_KEY,
    RSA_KEY,
    FakeSource,
    World,
    claims,
    jwk,
    jwks,
    sign,
    world,
)

OLD = jwk(EC_KEY, "key-1")
NEW = jwk(RSA_KEY, "key-2")


def old_token(w: World, **changes: object) -> str:
    """Return a token signed with the old key; `changes` make it another token."""
    return sign(claims(w.clock, **changes))


def new_token(w: World, **changes: object) -> str:
    """Return a token signed with the new key."""
    return sign(claims(w.clock, **changes), RSA_KEY, kid="key-2")


def refused(w: World, token: str) -> str:
    """Return the reason that `token` is refused for."""
    with pytest.raises(ProofRefused) as refusal:
        w.authenticate(token)
    return refusal.value.reason


def test_a_new_key_is_picked_up_by_the_first_token_it_signs() -> None:
    source = FakeSource(jwks(OLD))
    w = world(source=source)
    w.authenticate(old_token(w))

    source.document = jwks(NEW, OLD)
    w.clock.advance(timedelta(seconds=REFETCH_SECONDS))

    assert w.authenticate(new_token(w)).evidence.namespace == "shop"
    assert w.authenticate(old_token(w, jti="2")).evidence.namespace == "shop"
    assert source.fetches == 2


def test_unknown_kids_cause_one_fetch_in_ten_seconds() -> None:
    source = FakeSource(jwks(OLD))
    w = world(source=source)
    w.authenticate(old_token(w))

    for number in range(50):
        w.clock.advance(timedelta(seconds=1))
        assert refused(w, sign(claims(w.clock), kid=f"unknown-{number}")) == "unknown_key"

    assert source.fetches == 1 + 50 / REFETCH_SECONDS


def test_a_wall_clock_that_jumps_does_not_hold_fetches_back() -> None:
    source = FakeSource(jwks(OLD))
    w = world(source=source)
    w.authenticate(old_token(w))
    source.document = jwks(NEW)

    w.clock.advance(timedelta(seconds=REFETCH_SECONDS))
    w.clock.jump(-timedelta(days=1))

    assert w.authenticate(new_token(w)).evidence.namespace == "shop"


def test_a_thousand_tokens_with_an_unknown_kid_share_one_fetch() -> None:
    source = FakeSource(jwks(OLD), held=threading.Event())
    w = world(source=source)
    tokens = [sign(claims(w.clock, jti=str(n))) for n in range(1000)]

    async def story() -> int:
        waiting = [asyncio.create_task(w.authenticator.authenticate(t)) for t in tokens]
        while source.fetches == 0:
            await asyncio.sleep(0)
        assert source.held is not None
        source.held.set()
        return len(await asyncio.gather(*waiting))

    assert asyncio.run(story()) == 1000
    assert source.fetches == 1


def test_who_comes_while_a_fetch_runs_waits_for_it() -> None:
    source = FakeSource(jwks(OLD), held=threading.Event())
    w = world(source=source)

    async def story() -> None:
        first = asyncio.create_task(w.authenticator.authenticate(old_token(w)))
        while source.fetches == 0:
            await asyncio.sleep(0)
        late = asyncio.create_task(w.authenticator.authenticate(old_token(w, jti="late")))
        await asyncio.sleep(0)
        assert source.held is not None
        source.held.set()
        assert (await first).spiffe_id == (await late).spiffe_id

    asyncio.run(story())
    assert source.fetches == 1


def test_the_loop_is_free_while_keys_are_fetched() -> None:
    source = FakeSource(jwks(OLD))
    w = world(source=source)

    async def story() -> None:
        await w.authenticator.authenticate(old_token(w))
        source.held = threading.Event()
        w.clock.advance(timedelta(seconds=REFETCH_SECONDS))
        stuck = asyncio.create_task(w.authenticator.authenticate(new_token(w)))
        while source.fetches == 1:
            await asyncio.sleep(0)

        await w.authenticator.authenticate(old_token(w, jti="while it is stuck"))

        assert not stuck.done()
        source.held.set()
        with pytest.raises(ProofRefused):
            await stuck

    asyncio.run(story())


def test_who_goes_away_does_not_stop_the_fetch_for_others() -> None:
    source = FakeSource(jwks(OLD), held=threading.Event())
    w = world(source=source)

    async def story() -> None:
        first = asyncio.create_task(w.authenticator.authenticate(old_token(w)))
        second = asyncio.create_task(w.authenticator.authenticate(old_token(w)))
        while source.fetches == 0:
            await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert source.held is not None
        source.held.set()
        assert (await second).evidence.namespace == "shop"

    asyncio.run(story())


def test_the_last_good_keys_are_kept_through_an_outage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = FakeSource(jwks(OLD))
    w = world(source=source)
    asyncio.run(w.authenticator.refresh())

    source.down = True
    w.clock.advance(timedelta(hours=12))
    asyncio.run(w.authenticator.refresh())

    assert w.authenticate(old_token(w)).evidence.namespace == "shop"
    assert refused(w, new_token(w)) == "unknown_key"
    assert "keys_not_fetched" in capsys.readouterr().out


@pytest.mark.parametrize("document", [b"<html>502</html>", b"", b"[]"])
def test_an_answer_that_is_no_key_set_is_an_outage(document: bytes) -> None:
    source = FakeSource(jwks(OLD))
    w = world(source=source)
    asyncio.run(w.authenticator.refresh())

    source.document = document
    asyncio.run(w.authenticator.refresh())

    assert w.authenticate(old_token(w)).evidence.namespace == "shop"


def test_without_any_keys_yet_the_caller_should_come_back() -> None:
    source = FakeSource(jwks(OLD), down=True)
    w = world(source=source)

    with pytest.raises(KeysUnavailable):
        w.authenticate(old_token(w))
    with pytest.raises(KeysUnavailable):
        w.authenticate(old_token(w))
    assert source.fetches == 1
    assert w.count("keys_unavailable") == 2

    source.down = False
    w.clock.advance(timedelta(seconds=REFETCH_SECONDS))
    assert w.authenticate(old_token(w)).evidence.namespace == "shop"


def test_a_key_its_source_has_dropped_is_honoured_no_longer_after_a_refresh() -> None:
    source = FakeSource(jwks(NEW, OLD))
    w = world(source=source)
    asyncio.run(w.authenticator.refresh())
    w.authenticate(old_token(w))

    source.document = jwks(NEW)
    asyncio.run(w.authenticator.refresh())

    assert refused(w, old_token(w, jti="another")) == "unknown_key"


def test_a_source_that_trusts_no_key_is_believed() -> None:
    source = FakeSource(jwks(OLD))
    w = world(source=source)
    asyncio.run(w.authenticator.refresh())

    source.document = jwks()
    asyncio.run(w.authenticator.refresh())

    assert refused(w, old_token(w)) == "unknown_key"


def test_running_fetches_at_once_and_ends_when_cancelled() -> None:
    source = FakeSource(jwks(OLD))
    w = world(source=source)

    async def story() -> None:
        running = asyncio.create_task(w.authenticator.run())
        while source.fetches == 0:
            await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(story())
    w.authenticator.close()
    assert source.closed
