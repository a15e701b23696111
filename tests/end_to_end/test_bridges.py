"""While a root leaves, whoever knows only the old one verifies what is signed under the new one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ca.upstream.self_signed import add_root
from meshca.clock import SystemClock
from meshca.demo.app import EchoApp
from meshca.demo.traffic import Traffic
from tests.end_to_end.handshakes import handshake
from tests.end_to_end.proxies import Proxy
from tests.end_to_end.server import RunningServer, allow
from tests.real_parts import envoy, wait_until

pytestmark = pytest.mark.end_to_end


@contextmanager
def caller_with(roots: Path, name: str, *, orders: Proxy) -> Iterator[Proxy]:
    """Run a caller of `orders` that follows no bundle: it knows one file of roots for good."""
    proxy = Proxy(orders.server, name, calls=[orders])
    proxy.trust_only(roots)
    proxy.handshake_every(1)
    with proxy:
        proxy.wait_ready()
        yield proxy


def accepts(caller: Proxy) -> bool:
    """Return whether the caller accepts what `orders` shows now."""
    answer = caller.call(caller.outbound["orders"])
    assert answer.status_code in (200, 503), answer.text
    return answer.status_code == 200


def waive(server: RunningServer, *callers: Proxy) -> None:
    """Say that nobody need wait for callers of which it is not known what they trust."""
    names = {caller.spiffe_id for caller in callers}
    shown: dict[str, Any] = {"missing": []}

    def waits_for_them() -> bool:
        shown.update(server.query("ca", "show"))
        return {missing["spiffe_id"] for missing in shown["missing"]} == names

    wait_until(waits_for_them, within_seconds=15, what="nobody else is waited for")
    for missing in shown["missing"]:
        assert missing["why"] == "follows no trust bundle"
        given = (shown["successor"], missing["spiffe_id"], "--pod", missing["pod"])
        server.meshca("ca", "waive", *given, "--reason", "it will see the bridge")


def test_both_who_knows_only_the_old_root_and_only_the_new_one_accept_a_bridged_chain(
    tmp_path: Path, app: EchoApp
) -> None:
    envoy()
    old, new = tmp_path / "old.pem", tmp_path / "new.pem"
    with (
        RunningServer(tmp_path, svid="10s") as server,
        Proxy(server, "orders", app_port=app.port) as orders,
    ):
        server.apply(allow("reports", "orders"), allow("billing", "orders"))
        orders.wait_ready()
        old.write_bytes(server.roots.read_bytes())
        root = add_root(server.config.parent, trust_domain="example.org", now=SystemClock().now())
        new.write_bytes(root.public_bytes(Encoding.PEM))
        with (
            caller_with(old, "reports", orders=orders) as reports,
            caller_with(new, "billing", orders=orders) as billing,
        ):
            assert (accepts(reports), accepts(billing)) == (True, False)
            with Traffic(reports.outbound["orders"], callers=1) as traffic:
                server.meshca("ca", "rotate-root", "--reason", "a test")
                waive(server, reports, billing)
                wait_until(
                    lambda: accepts(billing), within_seconds=10, what="it shows the new root's"
                )
                assert accepts(reports)
                assert_bridged(orders, old, new)
                wait_until(lambda: traffic.requests > 100, within_seconds=10, what="enough traffic")
            assert traffic.failures == []
            assert server.query("ca", "show")["under_way"]

            wait_until(
                lambda: not server.query("ca", "show")["under_way"],
                within_seconds=30,
                what="the old root is out of the bundle",
            )
            server.meshca("svid", "renew", orders.spiffe_id)
            wait_until(
                lambda: len(handshake(orders.inbound, new).chain) == 2,
                within_seconds=10,
                what="the proxy has a certificate without a bridge",
            )
            assert (accepts(reports), accepts(billing)) == (False, True)
            assert not handshake(orders.inbound, old).is_accepted


def assert_bridged(orders: Proxy, old: Path, new: Path) -> None:
    """Assert that the chain of a proxy ends at either root for who knows just one of them."""
    by_old, by_new = handshake(orders.inbound, old), handshake(orders.inbound, new)
    assert by_old.is_accepted
    assert by_new.is_accepted
    leaf, intermediate, bridge = by_old.chain
    leaf.verify_directly_issued_by(intermediate)
    intermediate.verify_directly_issued_by(bridge)
    assert bridge.subject != bridge.issuer
    assert f"{leaf.serial_number:x}" in orders.serials()
