"""The clusters of a bootstrap: the way to the mesh CA, to the application, and to others."""

from sds.bootstrap_lifetimes import http_lifetime
from sds.bootstrap_tls import (
    SERVER_CLUSTER,
    Config,
    server_tls,
    token_injector,
    typed,
    upstream_tls,
)
from sds.bootstrap_values import Bootstrap, Endpoint, Inbound, Outbound

APP_CLUSTER = "app"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(bootstrap: Bootstrap) -> list[Config]:
    """Return every cluster; the mesh CA's comes first."""
    result = [_server(bootstrap)]
    if bootstrap.inbound:
        result.append({**_cluster(APP_CLUSTER, bootstrap.inbound.app), **_same_protocol()})
    for tcp in bootstrap.inbound_tcp:
        result.append(_cluster(tcp_name(tcp), tcp.app))
    for outbound in bootstrap.outbound:
        result.append(_upstream(bootstrap, outbound))
    return result


def tcp_name(tcp: Inbound) -> str:
    """Return the name of the listener and the cluster of `tcp`."""
    return f"inbound-tcp-{tcp.listen.port}"


def outbound_name(outbound: Outbound) -> str:
    """Return the name of the listener and the cluster of `outbound`."""
    return f"outbound-{outbound.port}"


def address(endpoint: Endpoint) -> Config:
    """Return `endpoint` as Envoy writes it."""
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def _upstream(bootstrap: Bootstrap, outbound: Outbound) -> Config:
    return {
        **_cluster(outbound_name(outbound), outbound.to),
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
    lb_endpoint = {"endpoint": {"address": address(endpoint)}}
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
