"""The listeners of a bootstrap: inbound over HTTP and TCP, and outbound.

An inbound listener takes mutual TLS and nothing else, unless it is permissive: then a second chain
takes plaintext, whose first filter asks whether PeerAuthentication permits that (STRICT until it
has heard). Which chain it is shows in a connection's first bytes; a client that waits for the
server to speak first is plaintext, after a while.
"""

from typing import Final

from sds.bootstrap_clusters import APP_CLUSTER, address, outbound_name, tcp_name
from sds.bootstrap_filters import http_filters, note_of_peer, tcp_filters
from sds.bootstrap_lifetimes import http_lifetime, tcp_lifetime
from sds.bootstrap_logs import connection_log, http_decision_log, refusal_log, tcp_decision_log
from sds.bootstrap_tls import Config, downstream_tls, typed
from sds.bootstrap_values import Bootstrap, Endpoint, Inbound, Outbound

_FIRST_BYTES_WITHIN: Final = "5s"


def listeners(bootstrap: Bootstrap) -> list[Config]:
    """Return every listener."""
    result: list[Config] = []
    if inbound := bootstrap.inbound:
        chains = [_inbound(bootstrap, plaintext=each) for each in _chains(bootstrap)]
        result.append(_listener("inbound", bootstrap, inbound, chains))
    for tcp in bootstrap.inbound_tcp:
        chains = [_inbound_tcp(bootstrap, tcp, plaintext=each) for each in _chains(bootstrap)]
        result.append(_listener(tcp_name(tcp), bootstrap, tcp, chains))
    return result + [_outbound(each) for each in bootstrap.outbound]


def _chains(bootstrap: Bootstrap) -> tuple[bool, ...]:
    return (False, True) if bootstrap.permissive else (False,)


def _inbound(bootstrap: Bootstrap, *, plaintext: bool) -> list[Config]:
    connections = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="inbound",
        # Without these three, a path rule is bypassed by /api/../admin.
        normalize_path=True,
        merge_slashes=True,
        path_with_escaped_slashes_action="UNESCAPE_AND_REDIRECT",
        strip_trailing_host_dot=True,
        forward_client_cert_details="SANITIZE_SET",
        set_current_client_cert_details={"uri": True},
        **_remote_address(bootstrap),
        common_http_protocol_options=http_lifetime(bootstrap.connection_lifetime),
        access_log=[refusal_log(), *([http_decision_log()] if bootstrap.decision_log else [])],
        route_config=_route_everything_to(APP_CLUSTER),
        http_filters=[*http_filters(plaintext=plaintext), _router()],
    )
    return [_network_filter(connections)]


def _remote_address(bootstrap: Bootstrap) -> Config:
    """Return who counts as the remote address: the peer, or whom that many trusted hops name.

    Otherwise whoever connects could name any address in X-Forwarded-For and pass for it.
    """
    return {
        "use_remote_address": True,
        "skip_xff_append": True,
        "xff_num_trusted_hops": bootstrap.trusted_hops,
    }


def _inbound_tcp(bootstrap: Bootstrap, tcp: Inbound, *, plaintext: bool) -> list[Config]:
    name = tcp_name(tcp)
    proxy = typed(
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=name,
        cluster=name,
        access_log=[tcp_decision_log()] if bootstrap.decision_log else [],
        **tcp_lifetime(bootstrap.connection_lifetime),
    )
    return [
        *tcp_filters(plaintext=plaintext),
        {"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy},
    ]


def _listener(
    name: str, bootstrap: Bootstrap, inbound: Inbound, chains: list[list[Config]]
) -> Config:
    """Return the listener of one chain, mutual TLS, or of that and one of plaintext."""
    secured: Config = {
        "transport_socket": downstream_tls(bootstrap),
        "filters": [note_of_peer(), *chains[0]],
    }
    listener: Config = {
        "name": name,
        "address": address(inbound.listen),
        "access_log": [connection_log()],
        "filter_chains": [secured],
    }
    if len(chains) > 1:
        secured["filter_chain_match"] = {"transport_protocol": "tls"}
        match = {"transport_protocol": "raw_buffer"}
        listener["filter_chains"] = [secured, {"filter_chain_match": match, "filters": chains[1]}]
        listener["listener_filters"] = [_tls_inspector()]
        listener["listener_filters_timeout"] = _FIRST_BYTES_WITHIN
        listener["continue_on_listener_filters_timeout"] = True
    return listener


def _tls_inspector() -> Config:
    return {
        "name": "envoy.filters.listener.tls_inspector",
        "typed_config": typed("filters.listener.tls_inspector.v3.TlsInspector"),
    }


def _outbound(outbound: Outbound) -> Config:
    name = outbound_name(outbound)
    connections = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        route_config=_route_everything_to(name),
        http_filters=[_router()],
    )
    return {
        "name": name,
        "address": address(Endpoint("127.0.0.1", outbound.port)),
        "filter_chains": [{"filters": [_network_filter(connections)]}],
    }


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
