"""The filters that refuse who is revoked, request by request (HTTP) or connection by connection.

A validation context keeps the revoked from a new handshake; open connections go on. So before the
policy stands an RBAC filter, the same for every proxy, that denies the certificates whose SHA-256
is in a map: no policy is compiled for a revocation, and a request costs the same for ten thousand
entries as for none (docs/revocation.md has the figures, and the forms that were slower or wrong).

The filter knows the peer by filter state, `PEER_KEY`, where a filter before it in the bootstrap has
noted the fingerprint when the handshake was done: by certificate, whatever names are in it, and as
much on a resumed session. Where nothing was noted, everything is refused as `PEER_NOT_NOTED`, so a
proxy that lacks that filter shows it at once, not at the first revocation. A plaintext connection
has a note without a fingerprint, and passes. Whoever is not revoked passes on to the policy.
"""

from collections.abc import Iterable
from typing import Any, Final

from envoy.config.rbac.v3.rbac_pb2 import RBAC as RULES
from envoy.config.rbac.v3.rbac_pb2 import Action as RbacAction
from envoy.extensions.filters.http.rbac.v3.rbac_pb2 import RBAC as HTTP_RBAC
from envoy.extensions.filters.network.rbac.v3.rbac_pb2 import RBAC as NETWORK_RBAC
from envoy.extensions.matching.common_inputs.network.v3.network_inputs_pb2 import FilterStateInput
from xds.type.matcher.v3.domain_pb2 import ServerNameMatcher
from xds.type.matcher.v3.matcher_pb2 import Matcher
from xds.type.matcher.v3.string_pb2 import StringMatcher

from authz.predicates import packed_extension
from ca.revocation.view import RevocationView
from sds.bootstrap_filters import PEER_KEY, PEER_PREFIX

REVOKED: Final = "revoked"
PEER_NOT_NOTED: Final = "peer-not-noted"
NOT_REVOKED: Final = "not-revoked"
STAT_PREFIX: Final = "revoked_"

_PEER: Final = packed_extension("peer", FilterStateInput(key=PEER_KEY))
_IS_NOTED: Final = Matcher.MatcherList.Predicate(
    single_predicate=Matcher.MatcherList.Predicate.SinglePredicate(
        input=_PEER, value_match=StringMatcher(prefix=PEER_PREFIX)
    )
)


def http_revoked(view: RevocationView) -> Any:
    """Return the HTTP RBAC filter that denies what `view` has revoked."""
    return HTTP_RBAC(rules_stat_prefix=STAT_PREFIX, matcher=_matcher(view))


def network_revoked(view: RevocationView) -> Any:
    """Return the network RBAC filter that denies what `view` has revoked."""
    return NETWORK_RBAC(stat_prefix=STAT_PREFIX, matcher=_matcher(view))


def _matcher(view: RevocationView) -> Any:
    fingerprints = {each for some in view.revoked.values() for each in some if each}
    matcher = Matcher(on_no_match=_act(PEER_NOT_NOTED, "DENY"))
    matcher.matcher_list.matchers.add(predicate=_IS_NOTED, on_match=_by_fingerprint(fingerprints))
    return matcher


def _by_fingerprint(fingerprints: Iterable[str]) -> Any:
    """Return the constant-time choice by the peer's fingerprint; a set may not be empty.

    Of Envoy's maps it is that of domains, since there many names share one action: a map of texts
    has an action each, which is twice the bytes, and ten times the time in which a proxy takes it.
    """
    passes = _act(NOT_REVOKED, "ALLOW")
    names = sorted(PEER_PREFIX + each for each in fingerprints)
    if not names:
        return passes
    domains = ServerNameMatcher.DomainMatcher(domains=names, on_match=_act(REVOKED, "DENY"))
    table = packed_extension("fingerprints", ServerNameMatcher(domain_matchers=[domains]))
    tree = Matcher.MatcherTree(input=_PEER, custom_match=table)
    return Matcher.OnMatch(matcher=Matcher(matcher_tree=tree, on_no_match=passes))


def _act(name: str, action: str) -> Any:
    rbac_action = RbacAction(name=name, action=RULES.Action.Value(action))
    return Matcher.OnMatch(action=packed_extension(name, rbac_action))
