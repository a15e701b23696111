"""When a revocation took effect, on real Envoys: one is frozen, and a server is killed."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from meshca.demo.app import EchoApp
from tests.builders import make_csr
from tests.end_to_end.authorities import two_proxies
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end
SOON = 30


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A running server."""
    with RunningServer(tmp_path / "mesh") as server:
        yield server


def issue(server: RunningServer, account: str) -> str:
    """Return the serial of a new certificate of `account`, which no proxy holds."""
    token, csr = server.directory / "stolen.token", server.directory / "stolen.csr"
    token.write_text(server.token(account))
    csr.write_bytes(make_csr())
    server.meshca("svid", "issue", "--csr", str(csr), "--token-file", str(token))
    (svid,) = server.wait_for_records(account)
    return str(svid["serial"])


def revoke(server: RunningServer, serial: str) -> None:
    server.meshca("svid", "revoke", "--serial", serial, "--why", "test")


def timeline(server: RunningServer, serial: str) -> Any:
    return server.query("svid", "revocation", serial)["timeline"]


def replica(told: Any) -> Any:
    """Return what the one replica says; nothing is behind before it has."""
    (one,) = told["replicas"] or [{"acknowledged": 0, "behind": []}]
    return one


def in_force(server: RunningServer, serial: str) -> Any:
    """Return the timeline once the revocation is in force."""
    wait_until(
        lambda: timeline(server, serial)["in_force_at"] is not None,
        within_seconds=SOON,
        what="everybody has acknowledged it",
    )
    return timeline(server, serial)


@contextmanager
def frozen(proxy: Proxy) -> Iterator[None]:
    """Let an Envoy do nothing while the `with` block runs; its connections stay."""
    os.kill(proxy.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(proxy.pid, signal.SIGCONT)


def test_a_frozen_envoy_is_behind_until_it_goes_on(server: RunningServer) -> None:
    with EchoApp() as app, two_proxies(server, app) as (orders, frontend):
        serial = issue(server, "stolen")
        with frozen(frontend):
            revoke(server, serial)
            wait_until(
                lambda: replica(timeline(server, serial))["acknowledged"] == 1,
                within_seconds=SOON,
                what="the other has acknowledged it",
            )
            told = timeline(server, serial)
            assert replica(told)["proxies"] == 2
            assert [b["spiffe_id"] for b in replica(told)["behind"]] == [frontend.spiffe_id]
            assert told["in_force_at"] is None
            assert frontend.spiffe_id in server.meshca("svid", "revocation", serial)

        told = in_force(server, serial)
        assert (replica(told)["acknowledged"], replica(told)["behind"]) == (2, [])
        assert told["signed"]
        entries = server.query("audit", "query", "--kind", "revocation")["entries"]
        (found,) = [e["details"] for e in entries if e["details"]["what"] == "in_force"]
        assert (found["acknowledged"], found["milliseconds"]) == (2, told["milliseconds"])
        assert orders.handshake_failures() == {}


def test_a_server_killed_right_after_a_decision_goes_on_with_it(server: RunningServer) -> None:
    with EchoApp() as app, two_proxies(server, app) as (orders, frontend):
        serial = issue(server, "stolen")
        with frozen(orders), frozen(frontend):
            revoke(server, serial)
            server.stop(signal.SIGKILL)
        server.start()

        told = in_force(server, serial)
        assert (replica(told)["proxies"], replica(told)["acknowledged"]) == (2, 2)
        assert replica(told)["behind"] == []
