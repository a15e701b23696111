"""The filters that policy decides: one resource a name and workload, made once for all its proxies.

What is made stays good until the policy set or the keys of token issuers change; nothing in it
depends on the time, since what does is decided by Check, request by request. Proxies that do not
have the filter `authz-check` get filters that deny what needs a check.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from authz.compile import http_rbac, needs_check, network_rbac
from authz.engine import WorkloadPolicies, compile_workload
from authz.jwks import NOBODYS
from authz.jwt_filter import Keys, jwt_filter
from authz.mode_filter import http_mode, network_mode
from authz.policy import PolicySet
from authz.request_authentication import JwtRule
from authz.workload import Workload
from sds.bootstrap_filters import (
    CHECK,
    HTTP_AUTHORIZATION,
    HTTP_MODE,
    HTTP_PLAINTEXT_AUTHORIZATION,
    JWT,
    TCP_AUTHORIZATION,
    TCP_MODE,
    TCP_PLAINTEXT_AUTHORIZATION,
)
from sds.check_filter import check_filter
from sds.resources import Resource, extension

MAXIMUM_CACHED: Final = 16_384


_Maker = Callable[[WorkloadPolicies, Keys, bool], Any]
_MAKERS: Final[dict[str, _Maker]] = {
    HTTP_AUTHORIZATION: lambda policies, _, check: http_rbac(policies, with_check=check),
    TCP_AUTHORIZATION: lambda policies, _, __: network_rbac(policies),
    HTTP_PLAINTEXT_AUTHORIZATION: lambda policies, _, check: http_rbac(
        policies, mutual_tls=False, with_check=check
    ),
    TCP_PLAINTEXT_AUTHORIZATION: lambda policies, _, __: network_rbac(policies, mutual_tls=False),
    HTTP_MODE: lambda policies, _, check: http_mode(policies, with_check=check),
    TCP_MODE: lambda policies, _, __: network_mode(policies),
    JWT: lambda policies, keys, _: jwt_filter(policies, keys),
    CHECK: lambda policies, _, __: check_filter(
        policies.workload,
        is_needed=needs_check(policies),
        asks_providers=bool(policies.enforced.custom.rules),
    ),
}
POLICY_NAMES: Final = tuple(_MAKERS)
"""The extension names that are answered from policy."""


def no_keys(_rule: JwtRule) -> str:
    """Return the key set of an issuer where nobody fetches any."""
    return NOBODYS


@dataclass(slots=True)
class PolicyResources:
    """Makes and remembers them; `keys` returns another function whenever a key has changed."""

    policies: Callable[[], PolicySet]
    keys: Callable[[], Keys]
    _made_of: tuple[PolicySet, Keys] | None = None
    _made: dict[tuple[str, Workload, bool], Resource] = field(default_factory=dict)

    def get(self, name: str, workload: Workload, *, with_check: bool) -> Resource:
        """Return the filter `name`, one of `POLICY_NAMES`, for `workload`."""
        current, keys = self.policies(), self.keys()
        known = self._made_of
        is_same = known is not None and known[0] is current and known[1] is keys
        if not is_same or len(self._made) >= MAXIMUM_CACHED:
            self._made_of, self._made = (current, keys), {}
        key = (name, workload, with_check)
        if key not in self._made:
            config = _MAKERS[name](compile_workload(current, workload), keys, with_check)
            self._made[key] = extension(name, config)
        return self._made[key]
