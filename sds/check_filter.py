"""The filter that asks us about each request, for workloads whose policy RBAC alone cannot say.

It calls `Check` over the bootstrap's own cluster, with the proxy's token as its proof. No answer in
time, no connection, an error: the request is refused (403).

Where nothing needs a check it is an RBAC filter that lets pass what the filter before it has
decided by itself. The two are pushed apart, and one may be refused or come late: what a filter let
pass that counts on a check (`authz.compile.CHECKED_STAT_PREFIX`) is refused here.
"""

from typing import Any, Final

from envoy.config.core.v3.config_source_pb2 import ApiVersion
from envoy.config.rbac.v3.rbac_pb2 import RBAC as RULES
from envoy.config.rbac.v3.rbac_pb2 import Permission, Principal
from envoy.extensions.filters.http.ext_authz.v3.ext_authz_pb2 import ExtAuthz
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HTTP_RBAC
from envoy.type.v3.http_status_pb2 import HttpStatus, StatusCode

from authz.compile import CHECKED_STAT_PREFIX
from authz.jwt_filter import METADATA_NAMESPACE
from authz.workload import Workload
from sds.bootstrap_tls import SERVER_CLUSTER
from sds.check_request import REMOTE_ADDRESS_KEY
from sds.labels import LABELS_KEY, LONGEST, write_labels

TIMEOUT_MILLISECONDS: Final = 250
PROVIDERS_MILLISECONDS: Final = 10_000
"""What a proxy waits for besides, where providers are asked: longer than any of them may take."""
STAT_PREFIX: Final = "meshca"
UNCHECKED_STAT_PREFIX: Final = "unchecked_"
_RBAC_METADATA: Final = "envoy.filters.http.rbac"
_RESULT: Final = f"{CHECKED_STAT_PREFIX}enforced_engine_result"


def check_filter(workload: Workload, *, is_needed: bool, asks_providers: bool = False) -> Any:
    """Return the ext_authz filter, or where it is not needed one that refuses what is unchecked."""
    if not is_needed:
        return HTTP_RBAC(rules_stat_prefix=UNCHECKED_STAT_PREFIX, rules=_refuse_unchecked())
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
    written = write_labels(workload)  # whichever replica is asked knows who asks
    if len(written) <= LONGEST:
        config.grpc_service.initial_metadata.add(key=LABELS_KEY).value = written
    address = config.grpc_service.initial_metadata.add(key=REMOTE_ADDRESS_KEY)
    address.value = "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"  # as RBAC takes it: see trusted hops
    timeout = TIMEOUT_MILLISECONDS + PROVIDERS_MILLISECONDS * asks_providers
    config.grpc_service.timeout.FromMilliseconds(timeout)
    return config


def _refuse_unchecked() -> Any:
    """Return rules that deny what a filter before this one let pass for Check to decide."""
    result = Permission()
    matcher = result.sourced_metadata.metadata_matcher
    matcher.filter = _RBAC_METADATA
    matcher.path.add(key=_RESULT)
    matcher.value.string_match.exact = "allowed"
    rules = RULES(action=RULES.DENY)
    rules.policies["unchecked"].permissions.append(result)
    rules.policies["unchecked"].principals.append(Principal(any=True))
    return rules
