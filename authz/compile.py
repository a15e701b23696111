"""Compiling a workload's policies to Envoy RBAC filters that decide exactly as the engine does.

One filter holds everything, in the order of the engine; the first match decides:

    guard: several URI SANs, a path that is not absolute           DENY
    DENY rules:  exact principals in maps, then the other rules    DENY   ns[N]-policy[P]-rule[I]
    ALLOW rules: exact principals in maps, then the other rules    ALLOW  ns[N]-policy[P]-rule[I]
    nothing matched                                                default-deny or default-allow

The name of what decided is in the proxy's access log: `rbac_access_denied_matched_policy[...]`.
A map finds a principal in constant time; a principal that is in the map, but for which no entry
matches, goes on to what follows (xDS: a nested matcher without a match is not a match).

Rules. The result is never without rules (`RBAC{}` allows all). What cannot be said exactly raises;
nothing is dropped, widened or narrowed. Equal policies give equal bytes. A filter compiled for
mutual TLS belongs on a chain that requires and verifies a client certificate; on plaintext it
denies as soon as it needs an identity. Pure: no I/O.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from envoy.config.rbac.v3.rbac_pb2 import RBAC as RULES
from envoy.config.rbac.v3.rbac_pb2 import Action as RbacAction
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HTTP_RBAC
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NETWORK_RBAC
from google.protobuf.any_pb2 import Any as AnyMessage
from xds.type.matcher.v3.matcher_pb2 import Matcher

from authz.engine import WorkloadPolicies
from authz.policy import Action, Rule
from authz.predicates import (
    HAS_ABSOLUTE_PATH,
    HAS_IDENTITY,
    HAS_SEVERAL_IDENTITIES,
    URI_SAN,
    Predicate,
    View,
    all_of,
    alternatives_predicate,
    negate,
    packed_extension,
)
from authz.principals import split_sources

DEFAULT_DENY = "default-deny"
DEFAULT_ALLOW = "default-allow"
SEVERAL_URI_SANS = "several-uri-sans"
PATH_NOT_ABSOLUTE = "path-not-absolute"
NETWORK_STAT_PREFIX = "meshca_"

_OWN_MAP_FROM = 17
"""A rule with operations and this many exact principals gets a map of its own, so that its
operations are written once and not once for each principal."""

_OnMatch = Any
_Entry = tuple[Predicate, _OnMatch]


def http_rbac(policies: WorkloadPolicies, *, mutual_tls: bool = True) -> Any:
    """Return the HTTP RBAC filter (`envoy.extensions.filters.http.rbac.v3.RBAC`) of a workload."""
    view = View(policies.trust_domains, is_http=True, is_mutual_tls=mutual_tls)
    return HTTP_RBAC(matcher=_matcher(policies, view))


def network_rbac(policies: WorkloadPolicies, *, mutual_tls: bool = True) -> Any:
    """Return the network RBAC filter (`envoy.extensions.filters.network.rbac.v3.RBAC`).

    As in the engine, an ALLOW rule that looks at HTTP never holds, and in a DENY rule what looks
    at HTTP is taken to hold.
    """
    view = View(policies.trust_domains, is_http=False, is_mutual_tls=mutual_tls)
    return NETWORK_RBAC(stat_prefix=NETWORK_STAT_PREFIX, matcher=_matcher(policies, view))


def to_any(message: Any) -> AnyMessage:
    """Return `message` packed, with the same bytes for equal messages on every replica."""
    packed = AnyMessage()
    packed.Pack(message, deterministic=True)
    return packed


def _matcher(policies: WorkloadPolicies, view: View) -> Any:
    return _first_match(_entries(policies, view), otherwise=_default(policies))


def _default(policies: WorkloadPolicies) -> _OnMatch:
    if not policies.enforced.has_allow and policies.enforced.default == "allow":
        return _act(DEFAULT_ALLOW, Action.ALLOW)
    return _act(DEFAULT_DENY, Action.DENY)


def _entries(policies: WorkloadPolicies, view: View) -> Iterator[_Entry]:
    if view.is_mutual_tls:
        yield HAS_SEVERAL_IDENTITIES, _act(SEVERAL_URI_SANS, Action.DENY)
    if view.is_http:
        yield negate(HAS_ABSOLUTE_PATH), _act(PATH_NOT_ABSOLUTE, Action.DENY)
    yield from _rule_entries(policies.enforced.deny.rules, Action.DENY, view)
    allow = [rule for rule in policies.enforced.allow.rules if view.is_http or not rule.http_only]
    yield from _rule_entries(allow, Action.ALLOW, view)


def _rule_entries(rules: Iterable[Rule], action: Action, view: View) -> Iterator[_Entry]:
    """Yield the entries of all rules of one action: those with maps first."""
    shared: dict[str, list[_Entry]] = {}
    own: list[_Entry] = []
    others: list[_Entry] = []
    for rule in rules:
        act = _act(rule.name, action)
        operations = alternatives_predicate(rule.operations, view)
        if operations is False:
            continue
        principals, sources = split_sources(rule.sources, view)
        others.append((all_of((sources, operations)), act))
        if operations is not True and len(principals) >= _OWN_MAP_FROM:
            own.append((operations, _by_principal(dict.fromkeys(principals, act))))
            continue
        for principal in principals:
            shared.setdefault(principal, []).append((operations, act))
    if shared:
        nested = {name: _nested(_first_match(entries)) for name, entries in shared.items()}
        yield HAS_IDENTITY, _by_principal(nested)
    yield from own
    yield from others


def _first_match(entries: Iterable[_Entry], *, otherwise: _OnMatch | None = None) -> Any:
    """Return the matcher that takes the first of `entries` that matches; else `otherwise`."""
    matcher = Matcher()
    for predicate, on_match in entries:
        if predicate is True:
            otherwise = on_match
            break
        if predicate is not False:
            matcher.matcher_list.matchers.add(predicate=predicate, on_match=on_match)
    if otherwise is not None:
        matcher.on_no_match.CopyFrom(otherwise)
    return matcher


def _nested(matcher: Any) -> _OnMatch:
    """Return what to do with a match: `matcher`, or its outcome when it has nothing to match."""
    if matcher.HasField("matcher_list"):
        return Matcher.OnMatch(matcher=matcher)
    return matcher.on_no_match


def _by_principal(outcomes: dict[str, _OnMatch]) -> _OnMatch:
    """Return the constant-time choice among `outcomes` by the peer's principal."""
    matcher = Matcher()
    matcher.matcher_tree.input.CopyFrom(URI_SAN)
    table = matcher.matcher_tree.exact_match_map.map
    for principal, outcome in outcomes.items():
        table[f"spiffe://{principal}"].CopyFrom(outcome)
    return Matcher.OnMatch(matcher=matcher)


def _act(name: str, action: Action) -> _OnMatch:
    rbac_action = RbacAction(name=name, action=RULES.Action.Value(action))
    return Matcher.OnMatch(action=packed_extension(name, rbac_action))
