"""A cluster whose API server does not answer holds up nothing but its own objects."""

import threading
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.server import RunningServer
from tests.identity.servers import http_server, write_kubeconfig
from tests.real_parts import wait_until

pytestmark = pytest.mark.end_to_end


def test_an_api_server_that_hangs_holds_up_neither_the_start_nor_issuance(tmp_path: Path) -> None:
    with http_server() as api_server:
        api_server.hold = threading.Event()
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", api_server.url)
        target = {
            "cluster": "here",
            "api_server": {"kubeconfig": str(kubeconfig)},
            "config_map": {"namespaces": ["shop"]},
        }
        with RunningServer(tmp_path / "server", settings={"publish": [target]}) as server:
            wait_until(lambda: bool(api_server.seen), within_seconds=10, what="it is asked")

            server.meshca("svid", "renew", "spiffe://example.org/meshca/server")

            wait_until(
                lambda: behind(server) == "1.0", within_seconds=20, what="the alarm is raised"
            )
            assert len(server.query("svid", "list")["svids"]) >= 2
            assert server.is_ready()
            api_server.hold.set()


def behind(server: RunningServer) -> str:
    """Return how many objects the metrics say are not as they should be."""
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    lines = httpx.get(url, timeout=5, trust_env=False).text.splitlines()
    name = 'meshca_bundle_publication_behind{cluster="here",kind="config_map"} '
    return next((line.removeprefix(name) for line in lines if line.startswith(name)), "")
