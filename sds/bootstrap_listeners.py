"""The listeners and clusters of a bootstrap: inbound, outbound, and the way to the mesh CA."""

from sds.bootstrap_filters import (
    http_authorization,
    http_revoked,
    note_of_peer,
    tcp_authorization,
    tcp_revoked,
)
from sds.bootstrap_lifetimes import http_lifetime, tcp_lifetime
from sds.bootstrap_tls import (
    SERVER_CLUSTER,
    Config,
    downstream_tls,
    server_tls,
    token_injector,
    typed,
    upstream_tls,
)
from sds.bootstrap_values import Bootstrap, Endpoint, Inbound, Outbound

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECTION_FIELDS = {
    "event": "connection",
    "time": "%START_TIME%",
    "listener": "%DOWNSTREAM_LOCAL_PORT%",
    "from": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "serial": "%DOWNSTREAM_PEER_SERIAL%",
    "tls_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "details": "%CONNECTION_TERMINATION_DETAILS%",
}
_REFUSAL_FIELDS = {
    "event": "refused",
    "time": "%START_TIME%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "details": "%RESPONSE_CODE_DETAILS%",
}


def listeners(bootstrap: Bootstrap) -> list[Config]:
    """Return every listener."""
    result = [_inbound(bootstrap, bootstrap.inbound)] if bootstrap.inbound else []
    result += [_inbound_tcp(bootstrap, each) for each in bootstrap.inbound_tcp]
    return result + [_outbound(each) for each in bootstrap.outbound]


def clusters(bootstrap: Bootstrap) -> list[Config]:
    """Return every cluster; the mesh CA's comes first."""
    result = [_server(bootstrap)]
    if bootstrap.inbound:
        result.append({**_cluster("app", bootstrap.inbound.app), **_same_protocol()})
    for tcp in bootstrap.inbound_tcp:
        result.append(_cluster(_tcp_name(tcp), tcp.app))
    for outbound in bootstrap.outbound:
        result.append(_upstream(bootstrap, outbound))
    return result


def _inbound(bootstrap: Bootstrap, inbound: Inbound) -> Config:
    connections = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="inbound",
        # Without these three, a path rule is bypassed by /api/../admin.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="UNESCAPE_AND_REDIRECT",
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
        common_http_protocol_options=http_lifetime(bootstrap.connection_lifetime),
        access_log=[_refusal_log()],
        route_config=_route_everything_to("app"),
        http_filters=[http_revoked(), http_authorization(), _router()],
    )
    return _mutual_tls_listener("inbound", bootstrap, inbound, [_network_filter(connections)])


def _inbound_tcp(bootstrap: Bootstrap, tcp: Inbound) -> Config:
    name = _tcp_name(tcp)
    proxy = typed(
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=name,
        cluster=name,
        **tcp_lifetime(bootstrap.connection_lifetime),
    )
    filters: list[Config] = [
        tcp_revoked(),
        tcp_authorization(),
        {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy},
    ]
    return _mutual_tls_listener(name, bootstrap, tcp, filters)


def _mutual_tls_listener(
    name: str, bootstrap: Bootstrap, inbound: Inbound, filters: list[Config]
) -> Config:
    return {
        "name": name,
        "address": _address(inbound.listen),
        "access_log": [_stdout_log(_CONNECTION_FIELDS)],
        "filter_chains": [
            {
                "transport_socket": downstream_tls(bootstrap),
                "filters": [note_of_peer(), *filters],
            },
        ],
    }


def _outbound(outbound: Outbound) -> Config:
    name = _outbound_name(outbound)
    connections = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        route_config=_route_everything_to(name),
        http_filters=[_router()],
    )
    return {
        "name": name,
        "address": _address(Endpoint("127.0.0.1", outbound.port)),
        "filter_chains": [{"filters": [_network_filter(connections)]}],
    }


def _upstream(bootstrap: Bootstrap, outbound: Outbound) -> Config:
    return {
        **_cluster(_outbound_name(outbound), outbound.to),
        **_same_protocol(common_http_protocol_options=http_lifetime(bootstrap.connection_lifetime)),
        "transport_socket": upstream_tls(bootstrap, outbound.peer),
    }


def _server(bootstrap: Bootstrap) -> Config:
    keepalive = {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}
    codec = typed("filters.http.upstream_codec.v3.UpstreamCodec")
    options = typed(
        "upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": keepalive},
        http_filters=[
            token_injector(bootstrap),
            {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},  # must be last
        ],
    )
    return {
        **_cluster(SERVER_CLUSTER, bootstrap.server),
        "typed_extension_protocol_options": {_HTTP_OPTIONS: options},
        "transport_socket": server_tls(bootstrap),
    }


def _cluster(name: str, endpoint: Endpoint) -> Config:
    lb_endpoint = {"endpoint": {"address": _address(endpoint)}}
    cluster: Config = {
        "name": name,
        "type": "STATIC" if endpoint.is_address else "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [lb_endpoint]}],
        },
    }
    if not endpoint.is_address:
        cluster["dns_lookup_family"] = "V4_PREFERRED"  # `localhost` is ::1 first, on most machines
    return cluster


def _same_protocol(**more: object) -> Config:
    """Return options that call on with the HTTP version of the caller, so that gRPC passes."""
    options = typed(
        "upstreams.http.v3.HttpProtocolOptions",
        use_downstream_protocol_config={
            "http_protocol_options": {},
            "http2_protocol_options": {},
        },
        **more,
    )
    return {"typed_extension_protocol_options": {_HTTP_OPTIONS: options}}


def _route_everything_to(cluster: str) -> Config:
    route = {"cluster": cluster, "timeout": "0s"}  # the app's timeouts are the app's business
    host = {
        "name": cluster,
        "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": route}],
    }
    return {"virtual_hosts": [host]}


def _network_filter(connections: Config) -> Config:
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": connections,
    }


def _router() -> Config:
    return {
        "name": "envoy.filters.http.router",
        "typed_config": typed("filters.http.router.v3.Router"),
    }


def _refusal_log() -> Config:
    forbidden = {"default_value": 403, "runtime_key": "meshca.refusal_log.status"}
    status = {"status_code_filter": {"comparison": {"op": "EQ", "value": forbidden}}}
    return {**_stdout_log(_REFUSAL_FIELDS), "filter": status}


def _stdout_log(fields: dict[str, str]) -> Config:
    log = typed(
        "access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": dict(fields)}
    )
    return {"name": "envoy.access_loggers.stdout", "typed_config": log}


def _address(endpoint: Endpoint) -> Config:
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def _tcp_name(tcp: Inbound) -> str:
    return f"inbound-tcp-{tcp.listen.port}"


def _outbound_name(outbound: Outbound) -> str:
    return f"outbound-{outbound.port}"
