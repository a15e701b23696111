"""Callers of a real Envoy with our bootstrap, when their certificates are revoked."""

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ca.revocation.view import RevocationView
from meshca.demo.app import EchoApp
from meshca.demo.ports import free_port
from tests.envoy import RunningEnvoy
from tests.real_parts import wait_until
from tests.sds.lists import fingerprint, make_crl, make_sibling, make_upper
from tests.sds.served import Peer, ServedMesh

pytestmark = pytest.mark.end_to_end
SOON = 10


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedMesh]:
    """A served mesh in which everybody may call everybody."""
    with ServedMesh(tmp_path) as mesh:
        yield mesh


@pytest.fixture
def orders(served: ServedMesh) -> Iterator[Callable[..., tuple[RunningEnvoy, int]]]:
    """Start the Envoy of an app, with options of the bootstrap; give it and its inbound port."""
    with EchoApp() as app, contextlib.ExitStack() as running:

        def start(change: Callable[[Any], None] = lambda _: None, **options: Any) -> Any:
            port = free_port()
            inbound = {"inbound": f"127.0.0.1:{port}", "app": f"127.0.0.1:{app.port}"}
            envoy = served.envoy("orders", **inbound, **options)
            config = json.loads(envoy.path.read_text())
            change(config)
            envoy.path.write_text(json.dumps(config))
            return running.enter_context(envoy), port

        yield start


Orders = Callable[..., tuple[RunningEnvoy, int]]


def wait_for(peer: Peer, port: int, expected: int) -> None:
    wait_until(
        lambda: peer.call(port) == expected,
        within_seconds=SOON,
        what=f"new connections end as {expected}",
    )


def wait_for_log(envoy: RunningEnvoy, text: str) -> None:
    wait_until(lambda: text in envoy.log_text(), within_seconds=SOON, what=f"the log has {text}")


def refused_handshakes(envoy: RunningEnvoy) -> int:
    """Return how many client certificates did not verify."""
    return sum(envoy.stats(r"^listener\..*ssl\.fail_verify_error$").values())


@pytest.mark.parametrize("validator", ["default", "spiffe"])
def test_a_revoked_caller_is_refused_and_nobody_else(
    served: ServedMesh, orders: Orders, validator: str
) -> None:
    envoy, port = orders(validator=validator)
    thief, *others = peers = [served.peer("web"), served.peer("web"), served.peer("cart")]
    with contextlib.ExitStack() as stack:
        for peer in peers:
            wait_for(peer, port, 200)
        kept = [stack.enter_context(peer.connected(port)) for peer in peers]
        assert [call() for call in kept] == [200, 200, 200]
        before = refused_handshakes(envoy)

        served.revoke(thief.certificate, upper=make_upper(served.pki, now=served.now))
        wait_for(thief, port, 0)

        assert refused_handshakes(envoy) > before
        assert [call() for call in kept] == [403, 200, 200]
        assert [peer.call(port) for peer in others] == [200, 200]
        wait_for_log(envoy, "rbac_access_denied_matched_policy[revoked]")


def test_a_session_is_not_resumed_by_the_revoked_or_anybody(
    served: ServedMesh, orders: Orders
) -> None:
    _, port = orders()
    thief = served.peer("web")
    wait_for(thief, port, 200)
    context = thief.context()

    def session(known: ssl.SSLSession | None) -> tuple[bool | None, ssl.SSLSession | None]:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            context.wrap_socket(raw, session=known) as secure,
        ):
            secure.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert secure.recv(12) == b"HTTP/1.1 200"
            return secure.session_reused, secure.session

    _, first = session(None)
    reused, _ = session(first)
    assert not reused

    served.revoke(thief.certificate)
    wait_for(thief, port, 0)


def test_a_certificate_of_several_names_is_known_by_its_fingerprint(
    served: ServedMesh, orders: Orders
) -> None:
    envoy, port = orders()
    names = [f"spiffe://example.org/ns/shop/sa/{account}" for account in ("web", "cart")]
    thief, plain = served.peer("web", *names), served.peer("web")
    wait_for(plain, port, 200)
    with thief.connected(port) as call:
        assert call() == 403
        wait_for_log(envoy, "policy[several-uri-sans]")

        served.revoke(thief.certificate)
        wait_for(thief, port, 0)

        assert call() == 403
        wait_for_log(envoy, "policy[revoked]")


def test_without_the_lists_above_the_spiffe_flavour_refuses_by_request_only(
    served: ServedMesh, orders: Orders
) -> None:
    envoy, port = orders(validator="spiffe")
    thief, other = served.peer("web"), served.peer("web")
    wait_for(thief, port, 200)

    served.revoke(thief.certificate, upper=None)

    wait_for(thief, port, 403)
    assert other.call(port) == 200
    assert refused_handshakes(envoy) == 0


def test_an_issuer_without_a_list_has_its_leaves_refused_beside_one_with(
    served: ServedMesh, orders: Orders
) -> None:
    _, port = orders()
    sibling = make_sibling(served.pki, now=served.now - timedelta(minutes=9), number=1)
    ours, theirs = served.peer("web"), served.peer("web", pki=sibling)
    wait_for(ours, port, 200)
    assert theirs.call(port) == 0

    lists = tuple(make_crl(pki, now=served.now) for pki in (served.pki, sibling))
    served.show(RevocationView(revision=2, lists=lists))
    wait_for(theirs, port, 200)
    assert ours.call(port) == 200

    served.show(RevocationView(revision=3))
    with theirs.connected(port) as call:
        assert call() == 200


@pytest.mark.parametrize("which", ["ended", "not begun"])
def test_a_list_that_is_not_current_refuses_everybody_under_its_issuer(
    served: ServedMesh, orders: Orders, which: str
) -> None:
    _, port = orders()
    peer = served.peer("web")
    wait_for(peer, port, 200)
    hour = timedelta(hours=1)
    bad = (
        make_crl(served.pki, now=served.now - 2 * hour, next_update=served.now - hour, number=2)
        if which == "ended"
        else make_crl(served.pki, now=served.now, this_update=served.now + hour, number=2)
    )

    served.show(RevocationView(revision=2, lists=(bad,)))
    wait_for(peer, port, 0)

    served.show(RevocationView(revision=3, lists=(make_crl(served.pki, now=served.now, number=3),)))
    wait_for(peer, port, 200)


def test_envoy_takes_a_list_and_a_filter_of_a_hundred_thousand(
    served: ServedMesh, orders: Orders
) -> None:
    _, port = orders()
    thief, other = served.peer("web"), served.peer("web")
    wait_for(thief, port, 200)
    serials = [*range(2**127, 2**127 + 100_000), thief.certificate.serial_number]
    crl = make_crl(served.pki, serials, now=served.now, number=2)
    assert len(crl.pem) > 4 * 2**20
    many = frozenset([f"{n:064x}" for n in range(100_000)] + [fingerprint(thief.certificate)])
    with thief.connected(port) as call, other.connected(port) as untouched:
        assert call() == untouched() == 200

        served.show(RevocationView(revision=2, lists=(crl,), revoked={"spiffe://e": many}))

        wait_until(lambda: thief.call(port) == 0, within_seconds=30, what="the list is in force")
        wait_until(lambda: call() == 403, within_seconds=30, what="the filter is in force")
        assert untouched() == other.call(port) == 200


def test_a_bootstrap_that_does_not_note_the_peer_fails_at_once(
    served: ServedMesh, orders: Orders
) -> None:
    def without_note(config: Any) -> None:
        for listener in config["static_resources"]["listeners"]:
            del listener["filter_chains"][0]["filters"][0]

    envoy, port = orders(without_note)
    wait_for(served.peer("web"), port, 403)
    wait_for_log(envoy, "policy[peer-not-noted]")
