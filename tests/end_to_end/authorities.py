"""What the stories of authorities and roots share: two proxies, and what must hold throughout."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from meshca.clock import SystemClock
from meshca.demo.app import EchoApp
from meshca.demo.traffic import Traffic
from tests.builders import make_csr
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow

PHASES = ["announce", "propagate", "switch", "reissue", "drain", "remove"]


@contextmanager
def two_proxies(
    server: RunningServer, app: EchoApp, *, orders_on: RunningServer | None = None
) -> Iterator[tuple[Proxy, Proxy]]:
    """Run `orders` and its caller `frontend`, which makes a new connection every few requests.

    `orders_on` is the server of `orders`, if it is another.
    """
    server.apply(allow("frontend", "orders"))
    orders = Proxy(orders_on or server, "orders", app_port=app.port)
    frontend = Proxy(server, "frontend", calls=[orders])
    frontend.handshake_every(10)
    with orders, frontend:
        orders.wait_ready()
        frontend.wait_ready()
        yield orders, frontend


def assert_nothing_failed(traffic: Traffic, *proxies: Proxy) -> None:
    """Assert that neither the apps nor the proxies have seen anything go wrong."""
    assert traffic.failures == [], traffic.failures
    assert traffic.requests > 500
    for proxy in proxies:
        assert proxy.handshake_failures() == {}
        assert sum(proxy.stats("sds.*update_rejected").values()) == 0


def authorities(server: RunningServer) -> dict[str, dict[str, Any]]:
    """Return every authority by its id."""
    return {a["authority_id"]: a for a in server.query("ca", "show")["authorities"]}


def assert_leaves_have_live_chains(server: RunningServer) -> set[str]:
    """Assert that every live leaf ends before its authority; return whose leaves they are."""
    leaves = server.query("svid", "list", "--live", "--limit", "1000")["svids"]
    known = authorities(server)
    now = SystemClock().now()  # after both answers: an authority ends after its last leaf
    alive = [leaf for leaf in leaves if now < instant(leaf["not_after"])]
    assert alive
    for leaf in alive:
        authority = known[leaf["authority_id"]]
        assert authority["stage"] in ("active", "retiring")
        assert instant(leaf["not_after"]) <= instant(authority["not_after"])
    return {leaf["authority_id"] for leaf in alive}


def instant(text: str) -> datetime:
    """Return the time that the program printed."""
    return datetime.fromisoformat(text)


def follow(server: RunningServer, *, within_seconds: float) -> list[dict[str, Any]]:
    """Return what `meshca ca show` said until the old root was gone."""
    deadline, seen = time.monotonic() + within_seconds, []
    while True:
        seen.append(server.query("ca", "show"))
        if not seen[-1]["under_way"]:
            seen[-1] = server.query("ca", "show")  # that answer may be of before and after the end
            return seen
        assert time.monotonic() < deadline, seen[-1]["phases"]
        time.sleep(0.1)


def assert_phases_came_in_order(seen: list[list[dict[str, Any]]]) -> None:
    """Assert that each phase ended, and none before the one that it stands on."""
    assert all([phase["name"] for phase in phases] == PHASES for phases in seen)
    left = [{phase["name"]: phase["remaining"] for phase in phases} for phases in seen]
    assert any(each["drain"] > 0 for each in left)
    for each in left:
        assert each["remove"] == 1
        if each["switch"] == 0:
            assert each["propagate"] == 0
        if each["drain"] == 0:
            assert each["switch"] == each["reissue"] == 0


def issue(server: RunningServer) -> tuple[int, str]:
    """Ask for an SVID and return the exit status and what was printed."""
    (server.directory / "token").write_text(server.token("orders"))
    (server.directory / "csr.pem").write_bytes(make_csr())
    (server.directory / "bundle.pem").write_text(server.meshca("bundle", "show"))
    files = ("--csr", "csr.pem", "--token-file", "token", "--trust-bundle", "bundle.pem")
    done = server.run("svid", "issue", *files)
    return done.returncode, done.stdout
