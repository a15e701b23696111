"""The filter that refuses connections without mutual TLS where PeerAuthentication is STRICT.

It stands first on a plaintext chain, beside one that requires and verifies client certificates.
DISABLE is as PERMISSIVE: mutual TLS is always taken, too. An emergency bypass permits plaintext,
as the engine has it. The ports are those that connections were made to.
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


def http_mode(policies: WorkloadPolicies, *, time: float) -> Any:
    """Return the HTTP RBAC filter of a workload's modes at `time` (seconds since the epoch)."""
    return HTTP_RBAC(rules_stat_prefix=STAT_PREFIX, rules=_rules(policies, time))


def network_mode(policies: WorkloadPolicies, *, time: float) -> Any:
    """Return the network RBAC filter of a workload's modes at `time`."""
    return NETWORK_RBAC(stat_prefix=STAT_PREFIX, rules=_rules(policies, time))


def _rules(policies: WorkloadPolicies, time: float) -> Any:
    """Return rules that are never absent: RBAC without any is no filter at all."""
    bypassed = any(each.holds_for(policies.workload, time) for each in policies.bypasses)
    strict = None if bypassed else _strict_ports(policies.enforced.modes)
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
