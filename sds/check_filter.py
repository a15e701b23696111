"""The filter that asks us about each request, for workloads whose policy RBAC alone cannot say.

It calls `Check` over the bootstrap's own cluster, with the proxy's token as its proof. No answer in
time, no connection, an error: the request is refused (403).
"""

from typing import Any, Final

from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HTTP_RBAC
from envoy.type.v3.http_status_pb2 import HttpStatus, StatusCode

from authz.jwt_filter import METADATA_NAMESPACE
from authz.workload import Workload
from sds.bootstrap_tls import SERVER_CLUSTER
from sds.check_request import REMOTE_ADDRESS_KEY
from sds.labels import LABELS_KEY, write_labels

TIMEOUT_MILLISECONDS: Final = 250
PROVIDERS_MILLISECONDS: Final = 10_000
"""What a proxy waits for besides, where providers are asked: longer than any of them may take."""
STAT_PREFIX: Final = "meshca"


def check_filter(workload: Workload, *, is_needed: bool, asks_providers: bool = False) -> Any:
    """Return the ext_authz filter, or where it is not needed an RBAC filter that lets all pass."""
    if not is_needed:
        return HTTP_RBAC()
    config = ExtAuthz(
        transport_api_version=ApiVersion.V3,
        failure_mode_allow=False,
        status_on_error=HttpStatus(code=StatusCode.Forbidden),
        include_peer_certificate=True,
        include_tls_session=True,
        metadata_context_namespaces=[METADATA_NAMESPACE],
        stat_prefix=STAT_PREFIX,
    )
    config.grpc_service.envoy_grpc.cluster_name = SERVER_CLUSTER
    labels = config.grpc_service.initial_metadata.add(key=LABELS_KEY)
    labels.value = write_labels(workload)  # whichever replica is asked knows who asks
    address = config.grpc_service.initial_metadata.add(key=REMOTE_ADDRESS_KEY)
    address.value = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"  # as RBAC takes it: see trusted hops
    timeout = TIMEOUT_MILLISECONDS + PROVIDERS_MILLISECONDS * asks_providers
    config.grpc_service.timeout.FromMilliseconds(timeout)
    return config
