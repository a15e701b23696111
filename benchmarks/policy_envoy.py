"""What a compiled policy of 10,000 principals costs a real Envoy, beside the same Envoy without.

A client sends requests to one Envoy, which passes them on over mutual TLS, on kept connections, to
another, which has the filter and answers by itself. Counted is the CPU time of the second one: what
a core of it could do, whatever the client and the first one cost. In turns, so that both see the
same machine.
"""

import json
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from authz.compile import http_rbac
from authz.engine import compile_workload
from authz.workload import Workload
from benchmarks.figure import Context, Row, Target
from benchmarks.process import Process, Worker, workers
from meshca.demo.ports import free_port
from tests.authz.authority import Authority
from tests.authz.builders import document, load
from tests.real_parts import envoy, wait_until

TITLE = "Policy of 10,000 principals in a real Envoy"
PRINCIPALS = 10_000
ROUNDS = 6
SECONDS = 4.0
TARGET = Target(85.0)

_TYPE = "type.googleapis.com/envoy.extensions"
_PEER = "example.org/ns/shop/sa/web"
_Config = dict[str, Any]


def run(context: Context) -> Iterator[Row]:
    """Measure both, in turns."""
    rounds, seconds = context.scale(ROUNDS, 2), SECONDS if not context.is_quick else 0.5
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        authority = Authority(Path(directory))
        paths = {
            name: stack.enter_context(_path(Path(directory), authority, name, filters))
            for name, filters in {"without": [], "with": [_policy()]}.items()
        }
        spent = {name: _Spent() for name in paths}
        for _ in range(rounds):
            for name, (server, client) in paths.items():
                spent[name].take(server, client, seconds)
    without, with_policy = (spent[name].per_core for name in ("without", "with"))
    unit = "/s per core"
    yield Row("requests, no filter", without, unit, note=spent["without"].note)
    yield Row("requests, compiled policy", with_policy, unit, note=spent["with"].note)
    share = with_policy / without * 100
    yield Row("of the requests without a filter", share, "%", target=TARGET)


class _Spent:
    """What one Envoy has done and used so far."""

    def __init__(self) -> None:
        self.requests = 0
        self.cpu = 0.0
        self.wall = 0.0

    def take(self, server: Process, client: Worker, seconds: float) -> None:
        """Let `client` ask for a while."""
        before = server.cpu_seconds
        client.tell(requests=1, seconds=seconds)
        seen = client.hear()
        if set(seen["answers"]) != {"200"}:
            raise RuntimeError(f"the proxy answered {seen['answers']}")
        self.cpu += server.cpu_seconds - before
        self.requests += seen["answers"]["200"]
        self.wall += seen["seconds"]

    @property
    def per_core(self) -> float:
        """Return requests a second of its CPU time."""
        return self.requests / self.cpu

    @property
    def note(self) -> str:
        """Return how it was measured."""
        each = self.cpu / self.requests * 1e6
        return f"{each:.1f} µs CPU each; {self.requests / self.wall:,.0f}/s wall, client included"


@contextmanager
def _path(
    directory: Path, authority: Authority, name: str, filters: list[_Config]
) -> Iterator[tuple[Process, Worker]]:
    """Run a client before two Envoys; yield the second Envoy, and the client."""
    inner, outer = free_port(), free_port()
    certificates = {
        each: authority.certify(f"{name}-{each}", f"spiffe://{peer}")
        for each, peer in {"client": _PEER, "server": "example.org/ns/shop/sa/orders"}.items()
    }
    server = _server(authority, certificates["server"], inner, filters)
    client = _client(authority, certificates["client"], outer, inner)
    with (
        _envoy(directory / f"{name}-server.json", server, inner) as process,
        _envoy(directory / f"{name}-client.json", client, outer),
        workers("http_load", [{"port": outer}]) as (load,),
    ):
        yield process, load


def _policy() -> _Config:
    names = [f"example.org/ns/ns-{n % 250}/sa/account-{n}" for n in range(PRINCIPALS - 1)]
    rules = [
        {
            "from": [{"source": {"principals": [*names, _PEER]}}],
            "to": [{"operation": {"methods": ["GET"], "paths": ["/items*"]}}],
        }
    ]
    policies = load(document("orders", rules=rules))
    rbac = http_rbac(compile_workload(policies, Workload("shop", {"app": "orders"})))
    config = {"@type": f"{_TYPE}.filters.http.rbac.v3.RBAC", **json_format.MessageToDict(rbac)}
    return {"name": "authz", "typed_config": config}


def _server(authority: Authority, certificate: Path, port: int, filters: list[_Config]) -> _Config:
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    tls = {
        "@type": f"{_TYPE}.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": _tls(authority, certificate),
    }
    return {
        "static_resources": {
            "listeners": [
                _listener(port, _manager(route, filters), {"name": "tls", "typed_config": tls})
            ]
        }
    }


def _client(authority: Authority, certificate: Path, port: int, to: int) -> _Config:
    tls = {
        "@type": f"{_TYPE}.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": _tls(authority, certificate),
    }
    endpoint = {"endpoint": {"address": _address(to)}}
    cluster = {
        "name": "server",
        "load_assignment": {
            "cluster_name": "server",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "transport_socket": {"name": "tls", "typed_config": tls},
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "server"}}
    listeners = [_listener(port, _manager(route, []))]
    return {"static_resources": {"listeners": listeners, "clusters": [cluster]}}


def _manager(route: _Config, filters: list[_Config]) -> _Config:
    router = {"@type": f"{_TYPE}.filters.http.router.v3.Router"}
    config = {
        "@type": f"{_TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "measured",
        "normalize_path": True,
        "merge_slashes": True,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [*filters, {"name": "router", "typed_config": router}],
    }
    return {"name": "http", "typed_config": config}


def _listener(port: int, manager: _Config, secured: Mapping[str, Any] | None = None) -> _Config:
    chain: _Config = {"filters": [manager]}
    if secured is not None:
        chain["transport_socket"] = dict(secured)
    return {"name": f"listener-{port}", "address": _address(port), "filter_chains": [chain]}


def _tls(authority: Authority, certificate: Path) -> _Config:
    chain = {"filename": str(certificate)}
    return {
        "tls_certificates": [{"certificate_chain": chain, "private_key": chain}],
        "validation_context": {"trusted_ca": {"filename": str(authority.root)}},
    }


def _address(port: int) -> _Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextmanager
def _envoy(path: Path, config: _Config, port: int) -> Iterator[Process]:
    path.write_text(json.dumps(config))
    command = [envoy(), "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1"]
    with subprocess.Popen(
        [*command, "--log-level", "error"], stdin=subprocess.DEVNULL, text=True
    ) as process:
        try:
            wait_until(lambda: _listens(port), within_seconds=30, what="Envoy listens")
            yield Process(process)
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
