"""An entry of a proxy's access log as a request of ours, and what the proxy did with it.

An entry tells of a decision when RBAC or ext_authz refused it, and when it got as far as routing;
what was refused before (a malformed request, a failed handshake, a bad token) was never decided
about. The destination is never read from an entry: it is the workload of the proxy that sends it.
An entry has no headers; its path may carry a query.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from envoy.config.core.v3.base_pb2 import RequestMethod
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType

from authz.jwt_filter import METADATA_NAMESPACE
from authz.request import Http, Request
from authz.workload import Workload
from meshca.errors import RequestRefused
from meshca.spiffe_id import SpiffeId
from sds.check_request import claims_of, known_address, known_port, parse_peer
from sds.check_response import is_marked

_RBAC: Final = "rbac_access_denied_matched_policy["
_CHECK: Final = ("ext_authz_denied", "ext_authz_error")
_ROUTED: Final = (
    *("via_upstream", "upstream_", "direct_response", "no_healthy_upstream", "route_not_found"),
    *("cluster_not_found", "maintenance_mode", "response_timeout", "internal_redirect"),
)
_LAST_ENTRIES: Final = frozenset(
    {AccessLogType.NotSet, AccessLogType.DownstreamEnd, AccessLogType.TcpConnectionEnd}
)

WorkloadOf = Callable[[], Workload]


@dataclass(frozen=True, slots=True)
class Told:
    """What an entry tells: the request, what became of it, and the rule that the proxy named.

    `is_checked` says that ext_authz decided it here, which has recorded it; `is_partial` that who
    made the request cannot be told from the entry. `request_id` is that of `x-request-id`.
    """

    request: Request
    allowed: bool
    named: str
    at: datetime
    is_checked: bool
    is_partial: bool
    request_id: str = ""


def read_http(entry: Any, workload: Workload, now: datetime) -> Told | None:
    """Return what an HTTPAccessLogEntry tells; None if nothing was decided."""
    common, asked = entry.common_properties, entry.request
    verdict = _verdict(entry.response.response_code_details, common, _ROUTED)
    if verdict is None or not _is_last(common):
        return None
    metadata = common.metadata.filter_metadata
    claims = claims_of(metadata[METADATA_NAMESPACE]) if METADATA_NAMESPACE in metadata else None
    http = Http(
        method=_method(asked.request_method),
        path=asked.original_path or asked.path or None,
        host=asked.authority or None,
        claims=claims,
    )
    return _told(common, workload, http, verdict, now, asked.request_id)


def read_tcp(entry: Any, workload: Workload, now: datetime) -> Told | None:
    """Return what a TCPAccessLogEntry tells; None if nothing was decided."""
    common = entry.common_properties
    verdict = _verdict(common.connection_termination_details, common, ())
    if verdict is None or not _is_last(common):
        return None
    return _told(common, workload, None, verdict, now)


def _verdict(details: str, common: Any, routed: tuple[str, ...]) -> tuple[bool, str] | None:
    """Return whether it was allowed, and the name of what refused it; None without a decision."""
    if details.startswith(_RBAC):
        return False, details[len(_RBAC) :].partition("]}")[0].removesuffix("]")
    if details.startswith(_CHECK):
        return False, details
    if common.HasField("upstream_remote_address") or (common.upstream_cluster and not details):
        return True, ""
    return (True, "") if routed and details.startswith(routed) else None


def _is_last(common: Any) -> bool:
    return not common.intermediate_log_entry and common.access_log_type in _LAST_ENTRIES


def _method(number: int) -> str | None:
    """Return the method; None for one that the log has no number for."""
    name: str = RequestMethod.Name(number)
    return None if name == "METHOD_UNSPECIFIED" else name


def _told(
    common: Any,
    workload: Workload,
    http: Http | None,
    verdict: tuple[bool, str],
    now: datetime,
    request_id: str = "",
) -> Told:
    source, is_certain = _source(common.tls_properties)
    direct = _address(common.downstream_direct_remote_address)
    local = common.downstream_local_address.socket_address
    at = _started(common, now)
    request = Request(
        source=source,
        destination=workload,
        port=known_port(local.port_value),
        http=http,
        source_ip=direct,
        remote_ip=_address(common.downstream_remote_address),
        destination_ip=known_address(local.address),
        sni=common.tls_properties.tls_sni_hostname or None,
        time=None if http is None else at.timestamp(),  # no clock decides about TCP
    )
    is_checked = is_marked(common.metadata)
    is_method_unknown = http is not None and http.method is None
    is_partial = not is_certain or is_method_unknown
    return Told(request, *verdict, at, is_checked, is_partial, request_id)


def _source(tls: Any) -> tuple[SpiffeId | None, bool]:
    """Return the peer's identity, and whether that is certain: it had at most one name."""
    names = tls.peer_certificate_properties.subject_alt_name
    uris = [name.uri for name in names if name.uri]
    if len(uris) != 1:
        return None, not uris
    try:
        return parse_peer(uris[0]), True
    except RequestRefused:
        return None, False


def _address(address: Any) -> str | None:
    return known_address(address.socket_address.address)


def _started(common: Any, now: datetime) -> datetime:
    if not common.HasField("start_time"):
        return now
    try:
        started: datetime = common.start_time.ToDatetime(tzinfo=now.tzinfo)
    except (ValueError, OverflowError):
        return now
    return min(started, now)
