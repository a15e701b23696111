"""Proofs remembered: for a minute, never past the token's end, and never a refusal."""

from datetime import timedelta

import pytest

from identity.kubernetes import CACHE_SECONDS, CACHED_TOKENS
from meshca.errors import ProofRefused
from tests.identity.builders import (
    EC_KEY,
    GOOD_REVIEW,
    FakeReviewer,
    claims,
    jwks_world,
    sign,
    world,
)


def test_the_same_token_is_proven_once_a_minute() -> None:
    w = jwks_world()
    token = sign(claims(w.clock))

    first = w.authenticate(token)
    w.clock.advance(timedelta(seconds=CACHE_SECONDS - 1))
    assert w.authenticate(token) is first
    assert (w.count("ok", "miss"), w.count("ok", "hit")) == (1, 1)

    w.clock.advance(timedelta(seconds=1))
    assert w.authenticate(token) == first
    assert (w.count("ok", "miss"), w.count("ok", "hit")) == (2, 1)


def test_a_hit_never_outlives_the_token() -> None:
    w = jwks_world()
    token = sign(claims(w.clock, exp=int(w.clock.now().timestamp()) + 5))
    w.authenticate(token)

    w.clock.advance(timedelta(seconds=5))
    w.authenticate(token)  # within the leeway, and therefore proven again
    assert w.count("ok", "hit") == 0

    w.clock.advance(timedelta(seconds=10))
    with pytest.raises(ProofRefused) as refused:
        w.authenticate(token)
    assert refused.value.reason == "expired"


def test_a_wall_clock_that_jumps_ahead_ends_hits() -> None:
    w = jwks_world()
    token = sign(claims(w.clock))
    w.authenticate(token)

    w.clock.jump(timedelta(hours=1))

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(token)
    assert refused.value.reason == "expired"


def test_a_wall_clock_that_jumps_back_does_not_lengthen_a_review() -> None:
    reviewer = FakeReviewer()
    w = world(reviewer=reviewer, validation="token_review", keys=None)
    token = sign(claims(w.clock))
    w.authenticate(token)

    w.clock.advance(timedelta(seconds=CACHE_SECONDS))
    w.clock.jump(-timedelta(seconds=CACHE_SECONDS))
    w.authenticate(token)

    assert len(reviewer.asked) == 2


def test_a_refusal_is_asked_again() -> None:
    refusing = FakeReviewer()
    w = world(reviewer=refusing, validation="token_review", keys=None)
    token = sign(claims(w.clock))
    refusing.answer = GOOD_REVIEW.__class__(False, "gone", (), "", "", (), {})

    for _ in range(2):
        with pytest.raises(ProofRefused):
            w.authenticate(token)

    assert len(refusing.asked) == 2


def test_the_cache_is_bounded_and_keeps_no_token() -> None:
    w = jwks_world()
    token = sign(claims(w.clock))
    w.authenticate(token)

    proven = w.authenticator._proven
    assert proven.maxsize == CACHED_TOKENS
    assert [len(key) for key in proven] == [32]
    assert token not in repr(list(proven.items()))


def test_a_token_signed_otherwise_is_another_token() -> None:
    w = jwks_world()
    payload = claims(w.clock)
    first, second = sign(payload, EC_KEY), sign(payload, EC_KEY)
    assert first != second

    w.authenticate(first)
    w.authenticate(second)

    assert w.count("ok", "hit") == 0
