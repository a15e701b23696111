"""Tokens end: streams end with them, and tokens that are not good get nothing."""

from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest

from identity.development import UnsafeDevelopmentCluster
from meshca.clock import SystemClock
from meshca.demo.app import EchoApp
from meshca.demo.probes import fetch_secret, forge
from meshca.demo.traffic import Traffic
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import NAMESPACE, RunningServer, allow
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end


def test_a_stream_ends_with_its_token_and_comes_back_with_the_fresh_one(
    server: RunningServer, app: EchoApp
) -> None:
    server.apply(allow("frontend", "orders"))
    short = ("--lifetime", "12s")
    orders = Proxy(server, "orders", app_port=app.port)
    frontend = Proxy(server, "frontend", calls=[orders], token=server.token("frontend", *short))
    frontend.handshake_every(5)
    with orders, frontend:
        orders.wait_ready()
        frontend.wait_ready()
        before = proof_of(server, "frontend")

        with Traffic(frontend.outbound["orders"]) as traffic:
            frontend.replace_token(server.token("frontend"))
            wait_until(
                lambda: proof_of(server, "frontend") > before,
                within_seconds=40,
                what="the stream's proof is the fresh token",
            )

        assert traffic.failures == []
        assert [entry["reason"] for entry in server.refusals()] == []


def proof_of(server: RunningServer, name: str) -> str:
    """Return until when the proof of a connected proxy is good; empty while it is away."""
    proxies = server.query("proxies")["proxies"]
    return next((p["proof_expires_at"] for p in proxies if p["spiffe_id"].endswith(name)), "")


def test_without_a_fresh_token_the_proxy_is_let_go_but_still_serves(
    server: RunningServer, app: EchoApp
) -> None:
    server.apply(allow("frontend", "orders"))
    token = server.token("orders", "--lifetime", "6s")
    with (
        Proxy(server, "orders", app_port=app.port, token=token) as orders,
        Proxy(server, "frontend", calls=[orders]) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()

        wait_until(
            lambda: "expired" in {entry["reason"] for entry in server.refusals()},
            within_seconds=40,
            what="the expired token is refused",
        )

        assert frontend.call(frontend.outbound["orders"]).status_code == 200
        wait_until(
            lambda: {p["node_id"] for p in server.query("proxies")["proxies"]} == {"frontend"},
            within_seconds=20,
            what="the proxy without a good token is let go",
        )


def expired(server: RunningServer) -> str:
    """Return a token that was good until half an hour ago."""
    cluster = UnsafeDevelopmentCluster.load(server.config.parent / "cluster")
    return cluster.token(
        namespace=NAMESPACE,
        service_account="intruder",
        audiences=["meshca"],
        lifetime=timedelta(minutes=30),
        now=SystemClock().now() - timedelta(hours=1),
        pod="intruder-0",
    )


BAD: dict[str, tuple[Callable[[RunningServer], str], str]] = {
    "forged": (lambda server: forge(server.token("intruder")), "bad_signature"),
    "expired": (expired, "expired"),
    "for another audience": (
        lambda server: server.token("intruder", "--audience", "somebody-else"),
        "wrong_audience",
    ),
    "no token at all": (lambda _: "not-a-token", "malformed"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_proxy_whose_token_is_not_good_never_gets_a_secret(
    server: RunningServer, app: EchoApp, case: str
) -> None:
    make, reason = BAD[case]
    orders = Proxy(server, "orders", app_port=app.port)
    with Proxy(server, "intruder", calls=[orders], token=make(server)) as intruder:
        wait_until(
            lambda: len(server.refusals()) >= 2, within_seconds=20, what="it tried more than once"
        )

        assert {entry["reason"] for entry in server.refusals()} == {reason}
        assert intruder.certs() == trusted_only(intruder)
        assert not intruder.is_ready()
        with pytest.raises(httpx.ConnectError):
            intruder.call(intruder.outbound["orders"])
    assert server.query("svid", "list", "--namespace", "shop")["svids"] == []


def trusted_only(intruder: Proxy) -> list[object]:
    """Return the loaded certificates that are the server's roots, from the file of its own."""
    return [each for each in intruder.certs() if not each.get("cert_chain")]


def test_a_call_without_a_token_is_unauthenticated(server: RunningServer) -> None:
    status = fetch_secret(server.port, server.roots, "localhost", None)

    assert status == "UNAUTHENTICATED"
    wait_until(
        lambda: [entry["reason"] for entry in server.refusals()] == ["no_token"],
        within_seconds=20,
        what="the refusal is on record",
    )


def test_a_good_token_in_the_same_call_gets_the_secret(server: RunningServer) -> None:
    token = server.token("orders")

    assert fetch_secret(server.port, server.roots, "localhost", token) == "OK"
