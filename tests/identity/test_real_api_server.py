"""Against a real kube-apiserver: its tokens, its reviews, its keys as they rotate, its absence."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from identity.caller import Caller
from identity.key_ring import REFETCH_SECONDS
from identity.kubernetes import CACHE_SECONDS, TokenAuthenticator, build_authenticator
from meshca.clock import SystemClock
from meshca.errors import ProofRefused, ReviewUnavailable
from meshca.metrics import Metrics
from meshca.settings import Cluster
from tests.kube import KubeApiServer
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end

AUDIENCE = "meshca"
MODES = ("jwks", "token_review", "both")

# A real API server remembers for 10 s what it said of a token.
SERVER_CACHE_SECONDS = 10.0


@pytest.fixture(scope="module")
def shop(kube: KubeApiServer) -> KubeApiServer:
    """The session's API server, with namespace `identity-shop` and account `orders` in it."""
    kube.create_namespace("identity-shop")
    kube.create_service_account("identity-shop", "orders")
    return kube


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeApiServer]:
    """An API server of our own, to be stopped and to rotate its keys."""
    with KubeApiServer(tmp_path_factory.mktemp("own-kube")) as server:
        server.create_namespace("identity-shop")
        server.create_service_account("identity-shop", "orders")
        yield server


class PatientClock(SystemClock):
    """The system's clock, on which a test can have waited."""

    waited = 0.0

    def wait(self, seconds: float) -> None:
        """Let `seconds` of monotonic time have passed."""
        self.waited += seconds

    def monotonic(self) -> float:
        """Return the system's seconds and those waited."""
        return super().monotonic() + self.waited


@contextmanager
def authenticator(
    server: KubeApiServer, validation: str, *, clock: SystemClock | None = None, **changes: Any
) -> Iterator[TokenAuthenticator]:
    """Build an authenticator that knows `server` as its one cluster."""
    access = {"kubeconfig": str(server.kubeconfig)}
    values = {
        "name": "real",
        "issuer": server.issuer,
        "audiences": [AUDIENCE],
        "validation": validation,
        "keys": {"api_server": access},
        "review": access,
    }
    made = build_authenticator(
        [Cluster.model_validate({**values, **changes})],
        trust_domain="example.org",
        clock=clock or SystemClock(),
        metrics=Metrics(),
    )
    try:
        yield made
    finally:
        made.close()


def authenticate(made: TokenAuthenticator, token: str) -> Caller:
    """Return the caller of `token`."""
    return asyncio.run(made.authenticate(token))


def refusal(made: TokenAuthenticator, token: str) -> str:
    """Return the reason that `token` is refused for."""
    with pytest.raises(ProofRefused) as refused:
        authenticate(made, token)
    return refused.value.reason


def pod_token(server: KubeApiServer, pod: str, audience: str = AUDIENCE) -> str:
    """Return a token of account orders bound to `pod`."""
    return server.request_token("identity-shop", "orders", audiences=[audience], pod=pod)


@pytest.mark.parametrize("validation", MODES)
def test_a_token_of_a_pod_proves_that_pod(shop: KubeApiServer, validation: str) -> None:
    pod = f"orders-{validation.replace('_', '-')}"
    uid = shop.create_pod("identity-shop", pod, "orders")

    with authenticator(shop, validation) as made:
        caller = authenticate(made, pod_token(shop, pod))

    assert str(caller.spiffe_id) == "spiffe://example.org/ns/identity-shop/sa/orders"
    assert caller.evidence.pod_name == pod
    assert caller.evidence.pod_uid == uid
    assert caller.evidence.node == "node-1"
    assert caller.evidence.method == f"kubernetes_{validation}"


@pytest.mark.parametrize("validation", MODES)
def test_a_token_for_another_audience_is_refused(shop: KubeApiServer, validation: str) -> None:
    pod = f"other-audience-{validation.replace('_', '-')}"
    shop.create_pod("identity-shop", pod, "orders")

    with authenticator(shop, validation) as made:
        assert refusal(made, pod_token(shop, pod, "vault")) == "wrong_audience"


@pytest.mark.parametrize("validation", MODES)
def test_a_forged_token_is_refused(shop: KubeApiServer, validation: str) -> None:
    pod = f"forged-{validation.replace('_', '-')}"
    shop.create_pod("identity-shop", pod, "orders")
    good = pod_token(shop, pod)
    forged = good.rsplit(".", 1)[0] + "." + pod_token(shop, pod).rsplit(".", 1)[1]
    reason = "review_refused" if validation == "token_review" else "bad_signature"

    with authenticator(shop, validation) as made:
        assert refusal(made, forged) == reason


def test_a_token_bound_to_nothing_is_refused_unless_the_cluster_allows_it(
    shop: KubeApiServer,
) -> None:
    token = shop.request_token("identity-shop", "orders", audiences=[AUDIENCE])

    with authenticator(shop, "both") as made:
        assert refusal(made, token) == "unbound"
    with authenticator(shop, "both", allow={"unbound_tokens": True}) as made:
        assert authenticate(made, token).evidence.pod_uid == ""


@pytest.mark.parametrize("validation", ["token_review", "both"])
def test_the_token_of_a_deleted_pod_is_refused_where_the_api_server_is_asked(
    shop: KubeApiServer, validation: str
) -> None:
    pod = f"deleted-{validation.replace('_', '-')}"
    shop.create_pod("identity-shop", pod, "orders")
    token = pod_token(shop, pod)
    shop.delete_pod("identity-shop", pod)

    with authenticator(shop, validation) as made:
        wait_until(
            lambda: is_refused(made, token),
            within_seconds=SERVER_CACHE_SECONDS + 10,
            what="the API server says that the pod is gone",
        )
        assert refusal(made, token) == "review_refused"


def is_refused(made: TokenAuthenticator, token: str) -> bool:
    """Return whether `token` is refused now."""
    try:
        authenticate(made, token)
    except ProofRefused:
        return True
    return False


def test_the_token_of_a_deleted_pod_is_good_until_it_expires_where_only_keys_are_asked(
    shop: KubeApiServer,
) -> None:
    shop.create_pod("identity-shop", "deleted-jwks", "orders")
    token = pod_token(shop, "deleted-jwks")
    shop.delete_pod("identity-shop", "deleted-jwks")

    with authenticator(shop, "jwks") as made:
        assert authenticate(made, token).evidence.pod_name == "deleted-jwks"


def test_rotated_keys_are_picked_up_and_dropped_ones_are_not_honoured(own: KubeApiServer) -> None:
    own.create_pod("identity-shop", "rotating", "orders")
    clock = PatientClock()
    with authenticator(own, "jwks", clock=clock) as made:
        old = pod_token(own, "rotating")
        authenticate(made, old)

        own.rotate_token_key()
        new = pod_token(own, "rotating")
        clock.wait(REFETCH_SECONDS)
        assert authenticate(made, new).evidence.pod_name == "rotating"

        own.retire_token_keys()
        asyncio.run(made.refresh())
        clock.wait(CACHE_SECONDS)
        assert refusal(made, old) == "unknown_key"
        assert authenticate(made, new).evidence.pod_name == "rotating"


def test_without_the_api_server_reviews_are_unavailable_and_keys_are_kept(
    own: KubeApiServer,
) -> None:
    own.create_pod("identity-shop", "outage", "orders")
    first, second = pod_token(own, "outage"), pod_token(own, "outage")
    with (
        authenticator(own, "jwks") as by_keys,
        authenticator(own, "token_review") as by_review,
        authenticator(own, "both") as by_both,
    ):
        for made in (by_keys, by_review, by_both):
            authenticate(made, first)

        own.stop()
        asyncio.run(by_keys.refresh())
        assert authenticate(by_keys, second).evidence.pod_name == "outage"
        assert authenticate(by_review, first).evidence.pod_name == "outage"
        for made in (by_review, by_both):
            with pytest.raises(ReviewUnavailable):
                authenticate(made, second)

        own.start()
        for made in (by_review, by_both):
            assert authenticate(made, second).evidence.pod_name == "outage"
