"""The access logs of a bootstrap: to the container's log, and decisions to the mesh CA.

Every connection and every refusal is a line on standard output. Decisions, which is every request
and every TCP connection, go to the mesh CA over gRPC (envoy.service.accesslog.v3), a second's worth
at a time. What a proxy cannot send it drops and counts; no request waits for it. Headers beyond
those that every entry has (path, host, user agent) are not sent; what filters noted is: the token's
claims and what RBAC would decide on trial (docs/authorization.md).
"""

from typing import Final

from sds.bootstrap_tls import SERVER_CLUSTER, Config, typed

HTTP_LOG: Final = "decisions"
TCP_LOG: Final = "tcp-decisions"
_FLUSH_AFTER: Final = "1s"
_BUFFER_BYTES: Final = 65_536
_CONNECTION_FIELDS: Final = {
    "event": "connection",
    "time": "%START_TIME%",
    "listener": "%DOWNSTREAM_LOCAL_PORT%",
    "from": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "serial": "%DOWNSTREAM_PEER_SERIAL%",
    "tls_failure": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%",
    "details": "%CONNECTION_TERMINATION_DETAILS%",
}
_REFUSAL_FIELDS: Final = {
    "event": "refused",
    "time": "%START_TIME%",
    "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "details": "%RESPONSE_CODE_DETAILS%",
}


def connection_log() -> Config:
    """Return the log of a listener: every connection when it has ended, on standard output."""
    return _stdout_log(_CONNECTION_FIELDS)


def refusal_log() -> Config:
    """Return the log of requests that were answered 403, on standard output."""
    forbidden = {"default_value": 403, "runtime_key": "meshca.refusal_log.status"}
    status = {"status_code_filter": {"comparison": {"op": "EQ", "value": forbidden}}}
    return {**_stdout_log(_REFUSAL_FIELDS), "filter": status}


def http_decision_log() -> Config:
    """Return the log that tells the mesh CA of each request, once it is answered."""
    log = typed(
        "access_loggers.grpc.v3.HttpGrpcAccessLogConfig", common_config=_to_server(HTTP_LOG)
    )
    return {"name": "envoy.access_loggers.http_grpc", "typed_config": log}


def tcp_decision_log() -> Config:
    """Return the log that tells the mesh CA of each TCP connection, once it has ended."""
    common = _to_server(TCP_LOG)
    log = typed("access_loggers.grpc.v3.TcpGrpcAccessLogConfig", common_config=common)
    return {"name": "envoy.access_loggers.tcp_grpc", "typed_config": log}


def _to_server(name: str) -> Config:
    return {
        "log_name": name,
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": SERVER_CLUSTER}},
        "buffer_flush_interval": _FLUSH_AFTER,
        "buffer_size_bytes": _BUFFER_BYTES,
    }


def _stdout_log(fields: dict[str, str]) -> Config:
    log = typed(
        "access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": dict(fields)}
    )
    return {"name": "envoy.access_loggers.stdout", "typed_config": log}
