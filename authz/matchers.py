"""The tree of Envoy's matching API that a filter is: what to do at the first match, and maps.

Everything is encoded (`authz.wire`): a matcher is an `xds.type.matcher.v3.Matcher`, what to do a
`Matcher.OnMatch`.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from envoy.config.rbac.v3.rbac_pb2 import RBAC as RULES
from envoy.config.rbac.v3.rbac_pb2 import Action as RbacAction
from xds.type.matcher.v3.matcher_pb2 import Matcher

from authz.policy import Action
from authz.predicates import SCHEME, URI_SAN, Predicate, packed_extension
from authz.wire import put, tag_of

Entry = tuple[Predicate, bytes]
"""When, and what to do then."""

_List = Matcher.MatcherList
_Tree = Matcher.MatcherTree
_LIST: Final = tag_of(Matcher, "matcher_list")
_TREE: Final = tag_of(Matcher, "matcher_tree")
_ON_NO_MATCH: Final = tag_of(Matcher, "on_no_match")
_MATCHERS: Final = tag_of(_List, "matchers")
_PREDICATE: Final = tag_of(_List.FieldMatcher, "predicate")
_ON_MATCH: Final = tag_of(_List.FieldMatcher, "on_match")
_NESTED: Final = tag_of(Matcher.OnMatch, "matcher")
_INPUT: Final = tag_of(_Tree, "input")
_EXACT_MAP: Final = tag_of(_Tree, "exact_match_map")
_ENTRY: Final = tag_of(_Tree.MatchMap, "map")
_KEY: Final = tag_of(_Tree.MatchMap.MapEntry, "key")
_VALUE: Final = tag_of(_Tree.MatchMap.MapEntry, "value")
_BY_URI_SAN: Final = put(_INPUT, URI_SAN)


@lru_cache(maxsize=16_384)
def act(name: str, action: Action) -> bytes:
    """Return the outcome `action`, ALLOW or DENY, under `name`."""
    rbac_action = RbacAction(name=name, action=RULES.Action.Value(action))
    extension = packed_extension(name, rbac_action)
    encoded: bytes = Matcher.OnMatch(action=extension).SerializeToString()
    return encoded


def first_match(entries: Iterable[Entry], *, otherwise: bytes | None = None) -> bytes:
    """Return the matcher that does what the first of `entries` that matches says; else `otherwise`.

    It may be empty, when nothing can match: no proxy takes such a matcher.
    """
    matchers, otherwise = _reachable(entries, otherwise)
    encoded = put(_LIST, b"".join(matchers)) if matchers else b""
    return encoded if otherwise is None else encoded + put(_ON_NO_MATCH, otherwise)


def choice(entries: Iterable[Entry]) -> bytes:
    """Return what to do in the order of `entries`; without a match, whatever follows is done."""
    matchers, otherwise = _reachable(entries, None)
    if not matchers and otherwise is not None:
        return otherwise
    encoded = put(_LIST, b"".join(matchers))
    if otherwise is not None:
        encoded += put(_ON_NO_MATCH, otherwise)
    return put(_NESTED, encoded)


def _reachable(
    entries: Iterable[Entry], otherwise: bytes | None
) -> tuple[list[bytes], bytes | None]:
    matchers: list[bytes] = []
    for predicate, on_match in entries:
        if predicate is True:
            return matchers, on_match
        if predicate is not False:
            field = put(_PREDICATE, predicate) + put(_ON_MATCH, on_match)
            matchers.append(put(_MATCHERS, field))
    return matchers, otherwise


def by_principal(outcomes: Mapping[str, bytes]) -> bytes:
    """Return the constant-time choice among `outcomes` by the peer's principal."""
    table = [
        put(_ENTRY, put(_KEY, f"{SCHEME}{principal}".encode()) + put(_VALUE, outcome))
        for principal, outcome in outcomes.items()
    ]
    tree = _BY_URI_SAN + put(_EXACT_MAP, b"".join(table))
    return put(_NESTED, put(_TREE, tree))
