"""One real Envoy that enforces many compiled policy sets at once, and clients with real identities.

Each case is a route with its own HTTP RBAC, chosen by the header `x-case`, on two ports of mutual
TLS and on one plaintext port; and, by SNI (`*.case-7.test`), a filter chain of the former with its
own network RBAC. Replies say in their body what decided, and what the shadow says.
"""

import contextlib
import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.listener.v3.listener_components_pb2 import Filter, FilterChain
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RULES
from envoy.config.route.v3.route_components_pb2 import Route
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz, ExtAuthzPerRoute
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC, RBACPerRoute
from envoy.extensions.filters.http.router.v3.router_pb2 import Router
from envoy.extensions.filters.listener.tls_inspector.v3.tls_inspector_pb2 import TlsInspector
from envoy.extensions.filters.network.echo.v3.echo_pb2 import Echo
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as manager_pb2,
)
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext
from envoy.extensions.upstreams.http.v3.http_protocol_options_pb2 import HttpProtocolOptions
from google.protobuf import json_format

from authz.compile import SHADOW_STAT_PREFIX, STAT_PREFIX, http_rbac, needs_check, network_rbac
from authz.engine import WorkloadPolicies
from authz.jwt_filter import METADATA_NAMESPACE
from meshca.demo.ports import free_port
from tests.authz.authority import Authority
from tests.real_parts import envoy, wait_until

_TYPE = "type.googleapis.com/"
_SHADOW = f"envoy.filters.http.rbac:{SHADOW_STAT_PREFIX}shadow_engine_result"
_BODY = f"%RESPONSE_CODE_DETAILS%|%DYNAMIC_METADATA({_SHADOW})%"
_CHECK = "check"
_MATCHED = "rbac_access_denied_matched_policy["
_LINKED = (Router, TlsInspector, Echo)  # types that the JSON below names


@dataclass(frozen=True)
class Case:
    """What one case enforces; `with_check` is how its HTTP filter is compiled.

    Where the proxy has a `Checking`, it asks it about each request of such a case that needs it.
    """

    policies: WorkloadPolicies
    with_check: bool = False


@dataclass(frozen=True)
class Checking:
    """The port of an ext_authz server, and the filter that validates tokens before."""

    port: int
    tokens: Any


@dataclass(frozen=True)
class Message:
    """One HTTP request as it is sent; `lines` are further header lines."""

    method: str = "GET"
    path: str = "/"
    host: str = "shop.test"
    lines: tuple[tuple[str, str], ...] = ()


class Ports(NamedTuple):
    """Where the proxy listens: two ports of mutual TLS, and one without."""

    first: int
    second: int
    plaintext: int

    @classmethod
    def free(cls) -> "Ports":
        """Return ports that nothing listened on a moment ago."""
        return cls(free_port(), free_port(), free_port())


@dataclass(frozen=True)
class Client:
    """Who sends, and where to: no URI is a plaintext connection."""

    uris: tuple[str, ...]
    port: int
    address: str = "127.0.0.1"
    sni: str | None = None


@dataclass(frozen=True)
class Answer:
    """Whether the proxy let a request pass, what it says decided, and what the shadow says.

    `decided_by` is empty where no RBAC filter refused; `shadow` is None where nothing is on trial,
    and for a refusal, whose body is written before the shadow's answer is there.
    """

    allowed: bool
    decided_by: str
    shadow: bool | None
    status: int = 200


@dataclass
class Proxy:
    """The running Envoy, and what clients have of it."""

    authority: Authority
    ports: Ports
    admin: int
    identities: dict[tuple[str, ...], ssl.SSLContext] = field(default_factory=dict)

    def send(self, case: int, client: Client, message: Message) -> Answer:
        """Send one HTTP request over a connection of its own."""
        return self.send_all(client, [(case, message)])[0]

    def send_all(self, client: Client, messages: Sequence[tuple[int, Message]]) -> list[Answer]:
        """Send HTTP requests, each to a case, one after the other over one connection."""
        answers: list[Answer] = []
        with self._socket(client) as connection, connection.makefile("rb") as replies:
            for case, message in messages:
                connection.sendall(_encoded(case, message))
                answers.append(_answer(replies))
        return answers

    def connect(self, client: Client) -> bool:
        """Return whether a new TLS connection, to the case of the SNI, may carry bytes."""
        with self._socket(client) as secure:
            try:
                secure.sendall(b"x")
                return secure.recv(1) == b"x"
            except (ConnectionError, ssl.SSLError):
                return False

    def counters(self, containing: str) -> dict[str, int]:
        """Return the counters of the proxy whose name contains `containing`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
        connection.request("GET", "/stats?format=json")
        stats = json.loads(connection.getresponse().read())["stats"]
        connection.close()
        return {s["name"]: s["value"] for s in stats if containing in s.get("name", "")}

    def _socket(self, client: Client) -> socket.socket:
        destination = "::1" if ":" in client.address else "127.0.0.1"
        raw = socket.create_connection(
            (destination, client.port), timeout=10, source_address=(client.address, 0)
        )
        if client.port == self.ports.plaintext:
            return raw
        return self.identity(client.uris).wrap_socket(raw, server_hostname=client.sni)

    def identity(self, uris: tuple[str, ...]) -> ssl.SSLContext:
        """Return what a client with `uris` connects with, made once; not in several threads."""
        if uris not in self.identities:
            context = ssl.create_default_context(cafile=str(self.authority.root))
            context.check_hostname = False
            name = f"client-{len(self.identities)}"
            context.load_cert_chain(self.authority.certify(name, *uris))
            self.identities[uris] = context
        return self.identities[uris]


def _encoded(case: int, message: Message) -> bytes:
    lines = (("Host", message.host), ("x-case", str(case)), *message.lines)
    head = [f"{message.method} {message.path} HTTP/1.1", *(f"{n}: {v}" for n, v in lines)]
    return "\r\n".join((*head, "", "")).encode("latin-1")


def _answer(replies: BinaryIO) -> Answer:
    status = int(replies.readline().split()[1])
    headers = http.client.parse_headers(replies)
    body = replies.read(int(headers["content-length"])).decode()
    details, _, shadow = body.partition("|")
    decided_by = details.removeprefix(_MATCHED).removesuffix("]") if _MATCHED in details else ""
    said = shadow == "allowed" if shadow in ("allowed", "denied") else None
    return Answer(status == 200, decided_by, said, status)


@contextlib.contextmanager
def running_proxy(
    directory: Path,
    ports: Ports,
    cases: Sequence[Case],
    *,
    tcp_cases: int | None = None,
    checking: Checking | None = None,
) -> Iterator[Proxy]:
    """Run an Envoy on `ports` that enforces `cases`, by number.

    The first `tcp_cases` (all, by default) also have a TCP filter chain.
    """
    authority = Authority(directory)
    server = authority.certify("server", "spiffe://example.org/ns/shop/sa/orders")
    proxy = Proxy(authority, ports, free_port())
    config = directory / "envoy.pb"
    bootstrap = _bootstrap(proxy, server, cases, cases[:tcp_cases], checking)
    config.write_bytes(bootstrap.SerializeToString())
    log = directory / "envoy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [envoy(), "-c", str(config), "--use-dynamic-base-id", "--concurrency", "1"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(
            lambda: _listens(ports.plaintext, process, log), within_seconds=60, what="Envoy listens"
        )
        yield proxy
    finally:
        process.terminate()
        process.wait(timeout=20)


def _listens(port: int, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()[-3000:]
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _bootstrap(
    proxy: Proxy,
    server: Path,
    cases: Sequence[Case],
    tcp_cases: Sequence[Case],
    checking: Checking | None,
) -> Any:
    bootstrap = _parse(
        {"admin": {"address": _address("127.0.0.1", proxy.admin)}, "static_resources": {}},
        Bootstrap(),
    )
    listeners = bootstrap.static_resources.listeners
    inspector = {"name": "inspector", "typed_config": {"@type": _type_of(TlsInspector)}}
    mutual = listeners.add(name="mutual-tls")
    ports = proxy.ports
    others = [{"address": _address("::", ports.second)}]
    listener = {"address": _address("::", ports.first), "additional_addresses": others}
    _parse({**listener, "listener_filters": [inspector]}, mutual)
    tls = _tls(proxy.authority, server)
    _add_chain(mutual, tls, [_http_manager(cases, checking, mutual_tls=True)])
    for number, case in enumerate(tcp_cases):
        filters = [_filter("rbac", network_rbac(case.policies)), _filter("echo", Echo())]
        chain = _add_chain(mutual, tls, filters)
        chain.filter_chain_match.server_names.append(f"*.case-{number}.test")
    plain = listeners.add(name="plaintext")
    _parse({"address": _address("::", ports.plaintext)}, plain)
    _add_chain(plain, None, [_http_manager(cases, checking, mutual_tls=False)])
    if checking is not None:
        _parse(_cluster(checking.port), bootstrap.static_resources.clusters.add())
    return bootstrap


def _cluster(port: int) -> dict[str, Any]:
    options = {
        "@type": _type_of(HttpProtocolOptions),
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _address("127.0.0.1", port)}}
    return {
        "name": _CHECK,
        "load_assignment": {
            "cluster_name": _CHECK,
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
        "typed_extension_protocol_options": {_type_of(HttpProtocolOptions)[len(_TYPE) :]: options},
    }


def _parse(config: dict[str, Any], message: Any) -> Any:
    return json_format.ParseDict(config, message)


def _type_of(message: Any) -> str:
    return f"{_TYPE}{message.DESCRIPTOR.full_name}"


def _address(host: str, port: int) -> dict[str, Any]:
    both = {"ipv4_compat": True} if host == "::" else {}
    return {"socket_address": {"address": host, "port_value": port, **both}}


def _add_chain(listener: Any, tls: Any, filters: Sequence[Any]) -> FilterChain:
    chain = listener.filter_chains.add(filters=filters)
    if tls is not None:
        chain.transport_socket.name = "tls"
        chain.transport_socket.typed_config.Pack(tls)
    return chain


def _filter(name: str, message: Any) -> Filter:
    packed = Filter(name=name)
    packed.typed_config.Pack(message)
    return packed


def _tls(authority: Authority, server: Path) -> Any:
    certificate = {"certificate_chain": {"filename": str(server)}}
    return _parse(
        {
            "require_client_certificate": True,
            "common_tls_context": {
                "tls_certificates": [{**certificate, "private_key": {"filename": str(server)}}],
                "validation_context": {"trusted_ca": {"filename": str(authority.root)}},
            },
        },
        DownstreamTlsContext(),
    )


def _http_manager(cases: Sequence[Case], checking: Checking | None, *, mutual_tls: bool) -> Filter:
    manager = _parse(
        {
            "stat_prefix": "inbound",
            "normalize_path": True,
            "merge_slashes": True,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
            "use_remote_address": True,
            "xff_num_trusted_hops": 1,
            "local_reply_config": {"body_format": {"text_format_source": {"inline_string": _BODY}}},
        },
        manager_pb2.HttpConnectionManager(),
    )
    for name, message in _http_filters(checking):
        manager.http_filters.add(name=name).typed_config.Pack(message)
    host = manager.route_config.virtual_hosts.add(name="cases", domains=["*"])
    host.routes.extend(
        _route(number, case, mutual_tls=mutual_tls) for number, case in enumerate(cases)
    )
    return _filter("http", manager)


def _http_filters(checking: Checking | None) -> Iterator[tuple[str, Any]]:
    if checking is not None:
        yield "tokens", checking.tokens
    # It denies, where a route has no policies of its own; and names the counters of all routes.
    yield (
        "rbac",
        RBAC(
            rules=RULES(),
            rules_stat_prefix=STAT_PREFIX,
            shadow_rules_stat_prefix=SHADOW_STAT_PREFIX,
            track_per_rule_stats=True,
        ),
    )
    if checking is not None:
        ask = ExtAuthz(
            transport_api_version=ApiVersion.V3,
            include_peer_certificate=True,
            include_tls_session=True,
            metadata_context_namespaces=[METADATA_NAMESPACE],
        )
        ask.grpc_service.envoy_grpc.cluster_name = _CHECK
        ask.grpc_service.timeout.seconds = 20
        yield _CHECK, ask
    yield "router", Router()


def _route(number: int, case: Case, *, mutual_tls: bool) -> Any:
    is_case = {"name": "x-case", "string_match": {"exact": str(number)}}
    route = _parse(
        {"match": {"prefix": "/", "headers": [is_case]}, "direct_response": {"status": 200}},
        Route(),
    )
    rbac = http_rbac(case.policies, mutual_tls=mutual_tls, with_check=case.with_check)
    route.typed_per_filter_config["rbac"].Pack(RBACPerRoute(rbac=rbac))
    if not (case.with_check and needs_check(case.policies)):
        route.typed_per_filter_config[_CHECK].Pack(ExtAuthzPerRoute(disabled=True))
    return route
