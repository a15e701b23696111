"""The filters that policy decides: one resource a name and workload, made once for all its proxies.

What is made stays good until the policy set, the keys of token issuers, or by an expiry the set's
meaning changes. Proxies that do not have the filter `authz-check` get an `authz` that denies what
needs a check.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from authz.compile import http_rbac, network_rbac
from authz.engine import WorkloadPolicies, compile_workload
from authz.expiry import next_expiry
from authz.jwks import EMPTY
from authz.jwt_filter import Keys, jwt_filter
from authz.mode_filter import http_mode, network_mode
from authz.policy import PolicySet
from authz.request_authentication import JwtRule
from authz.workload import Workload
from meshca.clock import Clock
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


@dataclass(frozen=True, slots=True)
class Making:
    """What a filter is made of beside the workload's policies; `time` is since the epoch."""

    time: float
    keys: Keys
    with_check: bool


_Maker = Callable[[WorkloadPolicies, Making], Any]
_MAKERS: Final[dict[str, _Maker]] = {
    HTTP_AUTHORIZATION: lambda policies, _: http_rbac(policies),
    TCP_AUTHORIZATION: lambda policies, _: network_rbac(policies),
    HTTP_PLAINTEXT_AUTHORIZATION: lambda policies, _: http_rbac(policies, mutual_tls=False),
    TCP_PLAINTEXT_AUTHORIZATION: lambda policies, _: network_rbac(policies, mutual_tls=False),
    HTTP_MODE: lambda policies, making: http_mode(policies, time=making.time),
    TCP_MODE: lambda policies, making: network_mode(policies, time=making.time),
    JWT: lambda policies, making: jwt_filter(policies, making.keys),
    CHECK: lambda _policies, _: check_filter(is_needed=False),
}
POLICY_NAMES: Final = tuple(_MAKERS)
"""The extension names that are answered from policy."""


def no_keys(_rule: JwtRule) -> str:
    """Return the key set of an issuer where nobody fetches any."""
    return EMPTY


@dataclass(slots=True)
class PolicyResources:
    """Makes and remembers them; `keys` returns another function whenever a key has changed."""

    policies: Callable[[], PolicySet]
    keys: Callable[[], Keys]
    clock: Clock
    _made_of: tuple[PolicySet, Keys] | None = None
    _good_until: float | None = None
    _made: dict[tuple[str, Workload, bool], Resource] = field(default_factory=dict)

    def get(self, name: str, workload: Workload, *, with_check: bool) -> Resource:
        """Return the filter `name`, one of `POLICY_NAMES`, for `workload`."""
        time = self.clock.now().timestamp()
        current, keys = self._refresh(time)
        key = (name, workload, with_check)
        if key not in self._made:
            compiled = compile_workload(current, workload)
            config = _MAKERS[name](compiled, Making(time, keys, with_check))
            self._made[key] = extension(name, config)
        return self._made[key]

    def _refresh(self, time: float) -> tuple[PolicySet, Keys]:
        """Forget what is not true any more; return what is."""
        current, keys = self.policies(), self.keys()
        known = self._made_of
        is_over = self._good_until is not None and time >= self._good_until
        if known is None or known[0] is not current or known[1] is not keys or is_over:
            self._made_of, self._made = (current, keys), {}
            self._good_until = next_expiry(current, time)
        elif len(self._made) >= MAXIMUM_CACHED:
            self._made = {}
        return current, keys
