"""When a policy set next changes by itself: rules, policies and bypasses that end."""

from collections.abc import Iterator

from authz.policy import PolicySet


def next_expiry(policies: PolicySet, time: float) -> float | None:
    """Return the first instant after `time` at which something of `policies` ends, if any does.

    Both are in seconds since the epoch.
    """
    return min((each for each in _expiries(policies) if each > time), default=None)


def _expiries(policies: PolicySet) -> Iterator[float]:
    overlay = policies.overlay
    yield from (bypass.expires for bypass in overlay.bypasses)
    for each in (policies, overlay.candidate):
        if each is None:
            continue
        for policy in each.policies:
            if policy.expires is not None:
                yield policy.expires
            yield from (rule.expires for rule in policy.rules if rule.expires is not None)
