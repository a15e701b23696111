"""TokenReview: what the API server must say, and what happens when it says nothing."""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from identity.review import MAXIMUM_WAITING, TokenReviews
from meshca.api_server import MAXIMUM_CONNECTIONS
from meshca.errors import Overloaded, ProofRefused, ReviewUnavailable
from tests.identity.builders import (
    AUDIENCE,
    EC_KEY,
    GOOD_REVIEW,
    FakeReviewer,
    FakeSource,
    World,
    about,
    claims,
    jwk,
    jwks,
    raw_token,
    sign,
    world,
)

EXTRA = "authentication.kubernetes.io/"


def review_world(reviewer: FakeReviewer, **changes: Any) -> World:
    """Return a world whose tokens are vouched for by `reviewer` alone."""
    return world(reviewer=reviewer, validation="token_review", keys=None, **changes)


def test_a_token_the_api_server_vouches_for_proves_its_pod() -> None:
    reviewer = FakeReviewer()
    w = review_world(reviewer, audiences=["meshca", "a-second"])
    token = sign(claims(w.clock))

    caller = w.authenticate(token)

    assert str(caller.spiffe_id) == "spiffe://example.org/ns/shop/sa/orders"
    assert caller.evidence.method == "kubernetes_token_review"
    assert reviewer.asked == [(token, ("a-second", "meshca"))]


def extra(name: str, *values: str) -> dict[str, Sequence[str]]:
    """Return the good extras with one changed."""
    return {**GOOD_REVIEW.extra, EXTRA + name: values}


DISAGREEMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "not authenticated": ({"authenticated": False}, "review_refused"),
    "authenticated, but an error": ({"error": "a webhook failed"}, "review_refused"),
    "no audience at all": ({"audiences": ()}, "review_audience"),
    "another audience": ({"audiences": ("vault",)}, "review_audience"),
    "another account": ({"username": "system:serviceaccount:shop:admin"}, "review_mismatch"),
    "a person": ({"username": "orders"}, "review_mismatch"),
    "no user": ({"username": ""}, "review_mismatch"),
    "five parts": ({"username": "system:serviceaccount:shop:orders:x"}, "review_mismatch"),
    "not in the group": ({"groups": ("system:authenticated",)}, "review_mismatch"),
    "another account UID": ({"uid": "recreated"}, "review_mismatch"),
    "no UID": ({"uid": ""}, "review_mismatch"),
    "another pod": ({"extra": extra("pod-name", "orders-2")}, "review_mismatch"),
    "another pod UID": ({"extra": extra("pod-uid", "recreated")}, "review_mismatch"),
    "two pod UIDs": ({"extra": extra("pod-uid", "a", "b")}, "review_mismatch"),
    "no value of the pod UID": ({"extra": extra("pod-uid")}, "review_mismatch"),
    "another node": ({"extra": extra("node-name", "node-2")}, "review_mismatch"),
}


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_is_not_believed(name: str) -> None:
    changes, reason = DISAGREEMENTS[name]
    w = review_world(FakeReviewer(replace(GOOD_REVIEW, **changes)))

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(sign(claims(w.clock)))

    assert refused.value.reason == reason
    assert refused.value.claimed["sub"] == "system:serviceaccount:shop:orders"
    assert w.count(reason) == 1


def test_a_reviewer_that_says_nothing_of_pods_is_enough() -> None:
    w = review_world(FakeReviewer(replace(GOOD_REVIEW, extra={})))

    assert w.authenticate(sign(claims(w.clock))).evidence.pod_name == "orders-1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://other.example.org"}, "unknown_issuer"),
        ({"aud": ["vault"]}, "wrong_audience"),
        ({"exp": 1}, "expired"),
        ({"aud": None}, "missing_claim"),
        ({"exp": None}, "missing_claim"),
        ({"sub": "system:serviceaccount:shop:admin"}, "subject_mismatch"),
        ({"kubernetes.io": about(pod=None)}, "unbound"),
    ],
)
def test_what_is_wrong_anyway_is_refused_without_asking(
    changes: dict[str, Any], reason: str
) -> None:
    reviewer = FakeReviewer()
    w = review_world(reviewer)

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(sign(claims(w.clock, **changes)))

    assert refused.value.reason == reason
    assert reviewer.asked == []


@pytest.mark.parametrize("alg", ["none", "HS256", "PS256", None])
def test_an_alg_that_kubernetes_does_not_issue_is_refused_without_asking(alg: str | None) -> None:
    reviewer = FakeReviewer()
    w = review_world(reviewer)
    token = raw_token(json.dumps({"alg": alg, "kid": "key-1"}), json.dumps(claims(w.clock)))

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(token)

    assert refused.value.reason == "wrong_algorithm"
    assert reviewer.asked == []


def test_a_token_that_expires_while_it_is_reviewed_is_refused() -> None:
    reviewer = FakeReviewer(held=threading.Event())
    w = review_world(reviewer)
    token = sign(claims(w.clock, exp=int(w.clock.now().timestamp()) + 1))

    async def story() -> str:
        waiting = asyncio.create_task(w.authenticator.authenticate(token))
        await until(lambda: reviewer.asked)
        w.clock.advance(timedelta(seconds=11))
        release(reviewer)
        with pytest.raises(ProofRefused) as refused:
            await waiting
        return refused.value.reason

    assert asyncio.run(story()) == "expired"


async def until(condition: Callable[[], object]) -> None:
    """Let others run until `condition` holds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


def release(reviewer: FakeReviewer) -> None:
    """Let the reviewer answer."""
    assert reviewer.held is not None
    reviewer.held.set()


def test_an_api_server_that_is_down_is_not_a_refusal() -> None:
    reviewer = FakeReviewer(down=True)
    w = review_world(reviewer)
    token = sign(claims(w.clock))

    with pytest.raises(ReviewUnavailable):
        w.authenticate(token)
    assert w.count("review_unavailable") == 1

    reviewer.down = False
    assert w.authenticate(token).evidence.namespace == "shop"


def test_a_review_is_not_awaited_for_ever() -> None:
    reviewer = FakeReviewer(held=threading.Event())
    reviews = TokenReviews(reviewer, deadline_seconds=0.05)

    with pytest.raises(ReviewUnavailable, match="no answer in time"):
        asyncio.run(reviews.review("token", b"digest", [AUDIENCE]))

    release(reviewer)
    reviews.close()


def test_one_token_is_reviewed_once_for_all_who_present_it_together() -> None:
    reviewer = FakeReviewer(held=threading.Event())
    w = review_world(reviewer)
    token = sign(claims(w.clock))

    async def story() -> int:
        waiting = [asyncio.create_task(w.authenticator.authenticate(token)) for _ in range(500)]
        await until(lambda: reviewer.asked)
        release(reviewer)
        return len(await asyncio.gather(*waiting))

    assert asyncio.run(story()) == 500
    assert len(reviewer.asked) == 1


def test_reviews_run_a_few_at_a_time_and_too_many_are_turned_away() -> None:
    reviewer = FakeReviewer(held=threading.Event())
    w = review_world(reviewer)
    tokens = [sign(claims(w.clock, jti=str(n))) for n in range(MAXIMUM_WAITING)]

    async def story() -> int:
        waiting = [asyncio.create_task(w.authenticator.authenticate(t)) for t in tokens]
        await until(lambda: len(reviewer.asked) == MAXIMUM_CONNECTIONS)
        with pytest.raises(Overloaded):
            await w.authenticator.authenticate(sign(claims(w.clock, jti="one more")))
        assert len(reviewer.asked) == MAXIMUM_CONNECTIONS
        release(reviewer)
        return len(await asyncio.gather(*waiting))

    assert asyncio.run(story()) == MAXIMUM_WAITING
    assert w.count("overloaded") == 1


def both_world(reviewer: FakeReviewer) -> World:
    """Return a world whose tokens need the cluster's key and the API server's word."""
    return world(
        source=FakeSource(jwks(jwk(EC_KEY, "key-1"))), reviewer=reviewer, validation="both"
    )


def test_both_asks_the_api_server_only_about_what_the_key_vouches_for() -> None:
    reviewer = FakeReviewer()
    w = both_world(reviewer)
    forged = sign(claims(w.clock), ec.generate_private_key(ec.SECP256R1()))

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(forged)
    assert refused.value.reason == "bad_signature"
    assert reviewer.asked == []

    caller = w.authenticate(sign(claims(w.clock)))
    assert caller.evidence.method == "kubernetes_both"
    assert len(reviewer.asked) == 1


def test_both_refuses_what_the_api_server_refuses_and_says_that_they_disagree(
    capsys: pytest.CaptureFixture[str],
) -> None:
    w = both_world(FakeReviewer(replace(GOOD_REVIEW, authenticated=False, error="pod is gone")))

    with pytest.raises(ProofRefused) as refused:
        w.authenticate(sign(claims(w.clock)))

    assert refused.value.reason == "review_refused"
    assert "validations_disagree" in capsys.readouterr().out


def test_both_without_the_api_server_is_unavailable() -> None:
    w = both_world(FakeReviewer(down=True))

    with pytest.raises(ReviewUnavailable):
        w.authenticate(sign(claims(w.clock)))
