"""The filter `authz` and the one after it are pushed apart: what a real Envoy does in between."""

import http.client
import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from authz.compile import http_rbac
from authz.engine import compile_workload
from meshca.demo.ports import free_port
from sds.check_filter import check_filter
from tests.authz.builders import ORDERS, document, load
from tests.real_parts import envoy, wait_until

pytestmark = pytest.mark.end_to_end
_TYPE = "type.googleapis.com/envoy.extensions.filters"
TOKEN = load(document(rules=[{"from": [{"source": {"requestPrincipals": ["https://idp/*"]}}]}]))
EVERYBODY = load(document(rules=[{}]))


@contextmanager
def proxy(directory: Path, *filters: Any) -> Iterator[int]:
    """Run an Envoy whose requests go through `filters`; yield its port."""
    port = free_port()
    chain = [_filter(f"filter-{n}", message) for n, message in enumerate(filters)]
    router = {"name": "router", "typed_config": {"@type": f"{_TYPE}.http.router.v3.Router"}}
    manager = {
        "@type": f"{_TYPE}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "tested",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
                }
            ]
        },
        "http_filters": [*chain, router],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chains = [{"filters": [{"name": "http", "typed_config": manager}]}]
    listener = {"name": "tested", "address": address, "filter_chains": chains}
    config = directory / "envoy.json"
    config.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [envoy(), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: _listens(port, process), within_seconds=30, what="Envoy listens")
        yield port
    finally:
        process.terminate()
        process.wait(timeout=20)


def _filter(name: str, message: Any) -> dict[str, Any]:
    kind = f"type.googleapis.com/{message.DESCRIPTOR.full_name}"
    return {"name": name, "typed_config": {"@type": kind, **json_format.MessageToDict(message)}}


def _listens(port: int, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def status(port: int) -> int:
    """Return what a request is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/")
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_what_counts_on_a_check_is_refused_while_nobody_checks(tmp_path: Path) -> None:
    compiled = compile_workload(TOKEN, ORDERS)
    wide = http_rbac(compiled, mutual_tls=False, with_check=True)

    with proxy(tmp_path, wide, check_filter(ORDERS, is_needed=False)) as port:
        assert status(port) == 403


def test_what_was_decided_without_a_check_passes(tmp_path: Path) -> None:
    compiled = compile_workload(EVERYBODY, ORDERS)
    exact = http_rbac(compiled, mutual_tls=False, with_check=True)

    with proxy(tmp_path, exact, check_filter(ORDERS, is_needed=False)) as port:
        assert status(port) == 200


def test_the_filter_alone_would_let_everybody_pass(tmp_path: Path) -> None:
    compiled = compile_workload(TOKEN, ORDERS)
    wide = http_rbac(compiled, mutual_tls=False, with_check=True)

    with proxy(tmp_path, wide) as port:
        assert status(port) == 200  # which is why the one after it must know
