"""The filter that refuses connections without mutual TLS where PeerAuthentication is STRICT.

It stands first on a plaintext chain, beside one that requires and verifies client certificates.
DISABLE is as PERMISSIVE: mutual TLS is always taken, too. The ports are those that connections were
made to. Where there is an emergency bypass, the filter leaves HTTP to Check, which knows the time.
"""

from typing import Any, Final

from envoy.config.rbac.v3.rbac_pb2 import RBAC as RULES
from envoy.config.rbac.v3.rbac_pb2 import Permission, Policy, Principal
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HTTP_RBAC
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NETWORK_RBAC

from authz.engine import WorkloadPolicies
from authz.peer_authentication import Mode, Modes

NOT_MUTUAL_TLS: Final = "not-mutual-tls"
"""How the filter's refusals are named in access logs."""
STAT_PREFIX: Final = "mode_"

_ANYTHING: Final = Permission(any=True)
_NO_MUTUAL_TLS: Final = Principal(not_id=Principal(authenticated=Principal.Authenticated()))


def http_mode(policies: WorkloadPolicies, *, with_check: bool) -> Any:
    """Return the HTTP RBAC filter of a workload's modes; `with_check` says that Check follows."""
    is_left_to_check = with_check and bool(policies.bypasses)
    strict = None if is_left_to_check else _strict_ports(policies.enforced.modes)
    return HTTP_RBAC(rules_stat_prefix=STAT_PREFIX, rules=_rules(strict))


def network_mode(policies: WorkloadPolicies) -> Any:
    """Return the network RBAC filter of a workload's modes."""
    return NETWORK_RBAC(
        stat_prefix=STAT_PREFIX, rules=_rules(_strict_ports(policies.enforced.modes))
    )


def _rules(strict: Any) -> Any:
    """Return rules that are never absent: RBAC without any is no filter at all."""
    if strict is None:
        everything = Policy(permissions=[_ANYTHING], principals=[Principal(any=True)])
        return RULES(action=RULES.ALLOW, policies={"all": everything})
    refused = Policy(permissions=[strict], principals=[_NO_MUTUAL_TLS])
    return RULES(action=RULES.DENY, policies={NOT_MUTUAL_TLS: refused})


def _strict_ports(modes: Modes) -> Any:
    """Return the permission that is the ports of mode STRICT; None if there are none."""
    ports = [
        Permission(destination_port=port)
        for port, mode in sorted(modes.ports.items())
        if (mode is Mode.STRICT) is not (modes.default is Mode.STRICT)
    ]
    if not ports:
        return _ANYTHING if modes.default is Mode.STRICT else None
    some = Permission(or_rules=Permission.Set(rules=ports))
    return Permission(not_rule=some) if modes.default is Mode.STRICT else some
