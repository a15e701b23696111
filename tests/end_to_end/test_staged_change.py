"""A staged change under real traffic: shown, tried in a namespace, taken back; and a bypass."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from meshca import settings
from meshca.clock import SystemClock
from meshca.database import open_engine
from meshca.demo.app import EchoApp
from tests.authz.staging.world import BOB, replica
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import NAMESPACE, RunningServer, allow
from tests.real_parts import envoy, wait_until

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server on which one denied pair takes a canary back."""
    envoy()
    with RunningServer(tmp_path, settings={"policy": {"canary": {"denials": 1}}}) as running:
        yield running


@contextmanager
def workloads(server: RunningServer, app: EchoApp, *callers: str) -> Iterator[dict[str, Proxy]]:
    """Run `orders`, and those who call it."""
    with ExitStack() as stack:
        orders = stack.enter_context(Proxy(server, "orders", app_port=app.port))
        orders.wait_ready()
        proxies = {"orders": orders}
        for name in callers:
            proxies[name] = stack.enter_context(Proxy(server, name, calls=[orders]))
            proxies[name].wait_ready()
        yield proxies


def status(proxy: Proxy) -> int:
    """Return what `orders` answers; 0 when there is no connection."""
    try:
        return int(proxy.call(proxy.outbound["orders"]).status_code)
    except httpx.TransportError:
        return 0


def shown(server: RunningServer) -> Any:
    return server.query("authz", "stage", "show")


def test_a_staged_change_shows_what_it_would_deny_and_falls_back_by_itself(
    server: RunningServer, app: EchoApp
) -> None:
    frontend_only = allow("frontend", "orders")
    server.apply(frontend_only, allow("batch", "orders"))
    candidate = server.directory / "candidate.yaml"
    candidate.write_text(yaml.safe_dump(frontend_only))
    with workloads(server, app, "frontend", "batch") as proxies:
        batch, frontend = proxies["batch"], proxies["frontend"]
        wait_until(lambda: status(batch) == 200, within_seconds=10, what="batch may call")

        server.meshca("authz", "stage", str(candidate), "--reason", "CHG-7")
        server.meshca("authz", "promote", "--reason", "look")
        assert (status(batch), status(frontend)) == (200, 200)
        wait_until(
            lambda: status(batch) == 200 and shown(server)["changes"]["newly_denied"] > 0,
            within_seconds=30,
            what="the shadow tells what it would deny",
        )
        (change,) = shown(server)["changes"]["shown"]
        assert change["change"] == "newly denied"
        assert change["source"] == batch.spiffe_id

        server.meshca("authz", "promote", "--namespaces", NAMESPACE, "--reason", "try")
        wait_until(lambda: status(batch) == 403, within_seconds=5, what="the canary is in force")
        assert status(frontend) == 200
        wait_until(lambda: shown(server)["stage"] == "shadow", within_seconds=15, what="it fell")
        wait_until(lambda: status(batch) == 200, within_seconds=5, what="batch may call again")

    (pair,) = shown(server)["fell_back"]["pairs"]
    assert pair["source"] == batch.spiffe_id
    (newest, *_) = server.query("audit", "query", "--kind", "policy_stage")["entries"]
    assert (newest["actor"], newest["details"]["step"]) == ("meshca", "fell_back")


def test_a_bypass_opens_a_destination_for_everybody_but_the_revoked(
    server: RunningServer, app: EchoApp
) -> None:
    with workloads(server, app, "frontend", "thief") as proxies:
        frontend, thief = proxies["frontend"], proxies["thief"]
        assert (status(frontend), status(thief)) == (403, 403)

        asked = server.query(
            *("authz", "bypass", f"{NAMESPACE}/orders", "--for", "30m", "--reason", "INC-7")
        )
        alone = server.run("authz", "approve", asked["bypass"], "--reason", "me")
        assert alone.returncode == 1
        assert "somebody else has to approve" in alone.stderr
        assert status(frontend) == 403

        asyncio.run(approve(server, asked["bypass"]))
        wait_until(lambda: status(frontend) == 200, within_seconds=5, what="the bypass opens")
        wait_until(lambda: status(thief) == 200, within_seconds=5, what="for the thief, too")
        assert asked["bypass"] in server.meshca("status")

        revoke = ("svid", "revoke", "--spiffe-id", thief.spiffe_id, "--ban")
        server.meshca(*revoke, "--reason", "keyCompromise", "--why", "INC-8")
        wait_until(lambda: status(thief) != 200, within_seconds=10, what="the thief is refused")
        assert status(frontend) == 200

        server.meshca("authz", "bypass", "--end", asked["bypass"], "--reason", "mended")
        wait_until(lambda: status(frontend) == 403, within_seconds=5, what="it is shut again")


async def approve(server: RunningServer, bypass: str) -> None:
    """Let somebody else approve, at another replica: a test has one user of this machine."""
    engine = open_engine(settings.load(server.config, environment={}).database_url)
    try:
        async with replica(engine, clock=SystemClock(), name="two") as two:
            await two.staging.emergencies.approve_bypass(bypass, actor=BOB, reason="yes")
    finally:
        engine.dispose()
