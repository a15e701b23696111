"""What real proxies decide before a running server is recorded, and read from the command line."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from authz.records.decisions import Decisions
from meshca import settings
from meshca.clock import SystemClock
from meshca.database import open_engine
from meshca.demo.app import EchoApp
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow, spiffe_id
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end
SOON = 20


def records(server: RunningServer, *filters: str) -> list[dict[str, Any]]:
    """Return the recorded decisions."""
    found: list[dict[str, Any]] = server.query("authz", "decisions", *filters)["decisions"]
    return found


def test_a_denial_is_found_with_its_reason_and_what_passed_is_counted(
    server: RunningServer, app: EchoApp
) -> None:
    server.apply(allow("frontend", "orders", methods=["GET"]))
    with (
        Proxy(server, "orders", app_port=app.port) as orders,
        Proxy(server, "frontend", calls=[orders]) as frontend,
    ):
        orders.wait_ready()
        frontend.wait_ready()
        port = frontend.outbound["orders"]
        wait_until(lambda: frontend.call(port).status_code == 200, within_seconds=5, what="a way")
        refused = frontend.call(port, "/items?token=secret", method="POST")
        assert refused.status_code == 403

        denials = ("--verdict", "deny", "--source", spiffe_id("frontend"))
        wait_until(
            lambda: any(each["method"] == "POST" for each in records(server, *denials)),
            within_seconds=SOON,
            what="the denial",
        )
        (denied,) = [each for each in records(server, *denials) if each["method"] == "POST"]
        table = server.meshca("authz", "decisions", *denials)
        metrics = httpx.get(f"http://127.0.0.1:{server.metrics_port}/metrics").text
    assert 'meshca_access_log_entries_total{outcome="recorded"}' in metrics
    assert "meshca_authz_disagreements_total{" not in metrics
    assert (denied["path"], denied["destination"]) == ("/items", spiffe_id("orders"))
    assert "POST is none of GET" in denied["reason"]
    assert "secret" not in json.dumps(denied)
    assert "POST is none of GET" in table
    server.stop()
    engine = open_engine(settings.load(server.config, {}).database_url)
    counted = list(Decisions(engine).distinct(SystemClock().now() - timedelta(hours=1)))
    engine.dispose()
    assert {each.source for each in counted if each.allowed} == {spiffe_id("frontend")}
    assert {each.path for each in counted if not each.allowed} == {"/items"}
