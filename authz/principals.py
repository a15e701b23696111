"""Splitting what a rule says of its sources: principals to look up, and the rest to compare.

For a principal that a source names exactly, every identity term of the source can be worked out
now, by the very functions that the engine uses. What remains is the sources without exact names.
"""

from dataclasses import replace

from authz.attributes import IDENTITY, Attribute
from authz.policy import Conjunction, Term
from authz.predicates import Predicate, View, alternatives_predicate
from authz.request import peer_facts
from authz.values import Strings
from meshca.spiffe_id import SpiffeId


def split_sources(sources: tuple[Conjunction, ...], view: View) -> tuple[list[str], Predicate]:
    """Return the exact principals for which `sources` hold, and when they hold for other peers."""
    if not sources or not view.is_mutual_tls:
        return [], alternatives_predicate(sources, view)
    principals: set[str] = set()
    rest: list[Conjunction] = []
    for source in sources:
        term = _named_principals(source)
        if term is None:
            rest.append(source)
            continue
        principals |= {p for p in term.values.exact if _holds(source, p, view.trust_domains)}
        if not term.values.is_exact:
            rest.append(tuple(_without_exact(term) if t is term else t for t in source))
    others = alternatives_predicate(tuple(rest), view) if rest else False
    return sorted(principals), others


def _named_principals(source: Conjunction) -> Term | None:
    """Return the term with exact principals of a source that looks at nothing but identity."""
    if not all(term.attribute in IDENTITY for term in source):
        return None
    for term in source:
        if term.attribute is Attribute.PRINCIPAL and not term.negative and term.values.exact:
            return term
    return None


def _holds(source: Conjunction, principal: str, trust_domains: tuple[str, ...]) -> bool:
    facts = peer_facts(SpiffeId.parse(f"spiffe://{principal}"), trust_domains)
    return all(term.holds(facts) for term in source)


def _without_exact(term: Term) -> Term:
    values = term.values
    assert isinstance(values, Strings)  # noqa: S101  # what principals are read as
    return replace(
        term, values=Strings(frozenset(), values.prefixes, values.suffixes, values.present)
    )
