"""Splitting what a rule says of its sources: principals to look up, and the rest to compare.

For a peer that a source names exactly (its principal, or its service account), every identity term
of the source can be worked out now, by the very functions that the engine uses. What remains is
what the source says beside identity, and the sources without exact names.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from authz.attributes import IDENTITY, Attribute
from authz.policy import Conjunction, Term
from authz.predicates import SCHEME, Predicate, any_of
from authz.request import peer_facts
from authz.term_predicates import (
    View,
    account_principals,
    alternatives_predicate,
    conjunction_predicate,
    domains_of,
)
from authz.values import Strings
from meshca.spiffe_id import SpiffeId

_NAMING: Final = (
    Attribute.PRINCIPAL,
    Attribute.SERVICE_ACCOUNT,
    Attribute.ANY_SERVICE_ACCOUNT,
)


@dataclass(frozen=True, slots=True)
class Named:
    """Peers named exactly, for which sources hold when `condition` does."""

    principals: tuple[str, ...]
    condition: Predicate


@dataclass(frozen=True, slots=True)
class Sources:
    """When the sources of a rule hold: for peers that are `named`, and for any peer (`others`)."""

    named: tuple[Named, ...]
    others: Predicate


def split_sources(sources: tuple[Conjunction, ...], view: View) -> Sources:
    """Return which peers `sources` name, and when they hold for other peers."""
    if not sources or not view.is_mutual_tls:
        return Sources((), alternatives_predicate(sources, view))
    named: list[Named] = []
    others: list[Predicate] = []
    for source in sources:
        term = _naming_term(source)
        principals = None if term is None else _principals_of(term, source, view)
        if term is None or principals is None:
            others.append(conjunction_predicate(source, view))
            continue
        beside = tuple(each for each in source if each.attribute not in IDENTITY)
        held = tuple(sorted(_holding(principals, term, source, view)))
        named.append(Named(held, conjunction_predicate(beside, view)))
        if not term.values.is_exact:
            rest = tuple(_without_exact(term) if t is term else t for t in source)
            others.append(conjunction_predicate(rest, view))
    return Sources(tuple(named), any_of(others))


def _naming_term(source: Conjunction) -> Term | None:
    for attribute in _NAMING:
        for term in source:
            positive = not term.negative and not term.if_absent
            if term.attribute is attribute and positive and term.values.exact:
                return term
    return None


def _principals_of(term: Term, source: Conjunction, view: View) -> list[str] | None:
    """Return the principals that `term` names; None where their trust domains are not known."""
    if term.attribute is Attribute.PRINCIPAL:
        return list(term.values.exact)
    known = domains_of(source) if term.attribute is Attribute.ANY_SERVICE_ACCOUNT else None
    if term.attribute is Attribute.ANY_SERVICE_ACCOUNT and known is None:
        return None
    return account_principals(term.values.exact, known or view.trust_domains)


def _holding(principals: list[str], term: Term, source: Conjunction, view: View) -> Iterator[str]:
    """Yield the principals for which every identity term of `source` holds."""
    terms = [each for each in source if each.attribute in IDENTITY and each is not term]
    for principal in principals:
        if not terms or _all_hold(terms, principal, view):
            yield principal


def _all_hold(terms: list[Term], principal: str, view: View) -> bool:
    try:
        identity = SpiffeId.parse(f"{SCHEME}{principal}")
    except ValueError:  # no peer is called so
        return False
    facts = peer_facts(identity, view.trust_domains)
    return all(term.holds(facts) for term in terms)


def _without_exact(term: Term) -> Term:
    values = term.values
    assert isinstance(values, Strings)  # noqa: S101  # what principals are read as
    return replace(
        term, values=Strings(frozenset(), values.prefixes, values.suffixes, values.present)
    )
