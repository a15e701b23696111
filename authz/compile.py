"""Compiling a workload's policies to Envoy RBAC filters that decide exactly as the engine does.

One filter holds everything, in the order of the engine; the first match decides:

    several URI SANs                                               DENY   several-uri-sans
    an emergency bypass (where Check follows)                      ALLOW  emergency-bypass
    a path that is not absolute                                    DENY   path-not-absolute
    plaintext on a STRICT port                                     DENY   not-mutual-tls
    DENY rules:  exact principals in maps, then the other rules    DENY   ns[N]-policy[P]-rule[I]
    ALLOW rules: exact principals in maps, then the other rules    ALLOW  ns[N]-policy[P]-rule[I]
    nothing matched                                                default-deny or default-allow

The name of what decided is in the proxy's access log: `rbac_access_denied_matched_policy[...]`.
A map finds a principal in constant time; a principal that is in the map, but for which no entry
matches, goes on to what follows (xDS: a nested matcher without a match is not a match).

What RBAC cannot say (`needs_check`): tokens, providers, the clock. Then there are two filters.
`with_check=True` is for a proxy that asks our Check about what this filter lets pass: it lets pass
whatever the engine may allow. `with_check=False` denies whatever the engine may deny. On TCP there
is no Check, so it is always the second.

What is on trial (`WorkloadPolicies.shadow`) is compiled beside, as the shadow matcher, which
only counts.

Rules. The result is never without rules (`RBAC{}` allows all). What cannot be said raises or is
decided on the safe side, as above; nothing else is dropped, widened or narrowed. Equal policies
give equal bytes. A filter compiled for mutual TLS belongs on a chain that requires and verifies a
client certificate; on plaintext it denies as soon as it needs an identity. Pure: no I/O.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HTTP_RBAC
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NETWORK_RBAC
from google.protobuf.any_pb2 import Any as AnyMessage
from xds.type.matcher.v3.matcher_pb2 import Matcher

from authz.engine import Layer, WorkloadPolicies
from authz.matchers import Entry, act, first_match
from authz.peer_authentication import Mode, Modes
from authz.policy import Action, Rule
from authz.predicates import (
    HAS_ABSOLUTE_PATH,
    HAS_SEVERAL_IDENTITIES,
    PORT,
    Predicate,
    any_of,
    compare,
    negate,
)
from authz.rule_entries import rule_entries
from authz.term_predicates import View

DEFAULT_DENY = "default-deny"
DEFAULT_ALLOW = "default-allow"
SEVERAL_URI_SANS = "several-uri-sans"
PATH_NOT_ABSOLUTE = "path-not-absolute"
NOT_MUTUAL_TLS = "not-mutual-tls"
EMERGENCY_BYPASS = "emergency-bypass"
STAT_PREFIX = "authz_"
CHECKED_STAT_PREFIX = "authz_checked_"
"""The prefix of a filter that lets pass what Check has still to decide: by it the filter after it
knows that it must not be one that lets all pass (`sds/check_filter.py`)."""
SHADOW_STAT_PREFIX = "authz_shadow_"


@dataclass(frozen=True, slots=True)
class _Filter:
    """Which filter is compiled: what its connections are, and whether Check comes after it."""

    view: View
    with_check: bool


def needs_check(policies: WorkloadPolicies) -> bool:
    """Return whether what is in force needs our Check beside RBAC to be decided exactly (HTTP)."""
    layer = policies.enforced
    rules = (*layer.custom.rules, *layer.deny.rules, *layer.allow.rules)
    return bool(policies.bypasses) or any(_needs_check(rule) for rule in rules)


def http_rbac(
    policies: WorkloadPolicies, *, mutual_tls: bool = True, with_check: bool = False
) -> Any:
    """Return the HTTP RBAC filter (`envoy.extensions.filters.http.rbac.v3.RBAC`) of a workload.

    `with_check` says that the proxy asks our Check about every request that the filter lets pass.
    """
    view = View(policies.trust_domains, is_http=True, is_mutual_tls=mutual_tls)
    kind = _Filter(view, with_check)
    is_wide = with_check and needs_check(policies)
    prefix = CHECKED_STAT_PREFIX if is_wide else STAT_PREFIX
    message = HTTP_RBAC(rules_stat_prefix=prefix, track_per_rule_stats=True)
    message.matcher.CopyFrom(_matcher(policies, policies.enforced, kind))
    if policies.shadow is not None:
        message.shadow_matcher.CopyFrom(_matcher(policies, policies.shadow, kind))
        message.shadow_rules_stat_prefix = SHADOW_STAT_PREFIX
    return message


def network_rbac(policies: WorkloadPolicies, *, mutual_tls: bool = True) -> Any:
    """Return the network RBAC filter (`envoy.extensions.filters.network.rbac.v3.RBAC`).

    As in the engine, an ALLOW rule that looks at HTTP never holds, and in a DENY rule what looks
    at HTTP is taken to hold. No time is known, and no provider asked: as in the engine, rules of
    ALLOW that expire do not hold, those of DENY do, and CUSTOM denies. A bypass has no effect.
    """
    view = View(policies.trust_domains, is_http=False, is_mutual_tls=mutual_tls)
    kind = _Filter(view, with_check=False)
    message = NETWORK_RBAC(stat_prefix=STAT_PREFIX)
    message.matcher.CopyFrom(_matcher(policies, policies.enforced, kind))
    if policies.shadow is not None:
        message.shadow_matcher.CopyFrom(_matcher(policies, policies.shadow, kind))
        message.shadow_rules_stat_prefix = SHADOW_STAT_PREFIX
    return message


def to_any(message: Any) -> AnyMessage:
    """Return `message` packed, with the same bytes for equal messages on every replica."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def _matcher(policies: WorkloadPolicies, layer: Layer, kind: _Filter) -> Any:
    bypassed = bool(policies.bypasses) and kind.with_check
    entries = _entries(layer, kind, bypassed=bypassed)
    return Matcher.FromString(first_match(entries, otherwise=_default(layer)))


def _default(layer: Layer) -> bytes:
    if not layer.has_allow and layer.default == "allow":
        return act(DEFAULT_ALLOW, Action.ALLOW)
    return act(DEFAULT_DENY, Action.DENY)


def _entries(layer: Layer, kind: _Filter, *, bypassed: bool) -> Iterator[Entry]:
    view = kind.view
    if view.is_mutual_tls:
        yield HAS_SEVERAL_IDENTITIES, act(SEVERAL_URI_SANS, Action.DENY)
    if bypassed:
        yield True, act(EMERGENCY_BYPASS, Action.ALLOW)
    if view.is_http:
        yield negate(HAS_ABSOLUTE_PATH), act(PATH_NOT_ABSOLUTE, Action.DENY)
    if not view.is_mutual_tls:
        yield _is_strict(layer.modes), act(NOT_MUTUAL_TLS, Action.DENY)
    yield from rule_entries(_denying(layer, kind), Action.DENY, view)
    yield from rule_entries(_allowing(layer, kind), Action.ALLOW, view)


def _is_strict(modes: Modes) -> Predicate:
    """Return whether the connection was made to a port that requires mutual TLS."""
    default_strict = modes.default is Mode.STRICT
    others = sorted(p for p, mode in modes.ports.items() if (mode is Mode.STRICT) != default_strict)
    is_other = any_of([compare(PORT, "exact", str(port)) for port in others])
    return negate(is_other) if default_strict else is_other


def _needs_check(rule: Rule) -> bool:
    return rule.action is Action.CUSTOM or rule.token_only or rule.expires is not None


def _denying(layer: Layer, kind: _Filter) -> Iterator[Rule]:
    """Yield the rules that deny; those that Check decides only where it does not follow."""
    rules = (*layer.custom.rules, *layer.deny.rules)
    return (rule for rule in rules if not (kind.with_check and _needs_check(rule)))


def _allowing(layer: Layer, kind: _Filter) -> Iterator[Rule]:
    """Yield the rules that allow; those that only Check can decide only where it follows."""
    for rule in layer.allow.rules:
        if rule.http_only and not kind.view.is_http:
            continue
        if kind.with_check or not _needs_check(rule):
            yield rule
