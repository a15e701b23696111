"""Whether one rule holds whenever another does: what can be proved from how they are written.

Sound, not complete: True is a proof, False only means that none was found. `covers(wide, narrow)`
reads "whatever satisfies `narrow` satisfies `wide`", for values, terms, conjunctions, rules and
selections alike.
"""

from collections.abc import Collection, Iterable, Sequence

from authz.attributes import IDENTITY, TOKEN, Attribute
from authz.policy import Action, Conjunction, Policy, Rule, Term
from authz.request import peer_facts
from authz.values import Networks, Paths, RequestPrincipals, Strings, Values
from meshca.spiffe_id import SpiffeId


def values_cover(wide: Values, narrow: Values) -> bool:
    """Return whether every text that `narrow` matches is matched by `wide`."""
    if isinstance(wide, Networks) and isinstance(narrow, Networks):
        return all(any(_is_inside(n, w) for w in wide.networks) for n in narrow.networks)
    if isinstance(wide, RequestPrincipals) and isinstance(narrow, RequestPrincipals):
        return all(
            any(
                values_cover(w.issuer, n.issuer) and values_cover(w.subject, n.subject)
                for w in wide.principals
            )
            for n in narrow.principals
        )
    if not isinstance(wide, Strings | Paths) or not isinstance(narrow, Strings | Paths):
        return False
    return _texts_cover(wide, narrow)


def _is_inside(narrow: object, wide: object) -> bool:
    subnet_of = getattr(narrow, "subnet_of", None)
    return type(narrow) is type(wide) and subnet_of is not None and bool(subnet_of(wide))


def _texts_cover(wide: Strings | Paths, narrow: Strings | Paths) -> bool:
    w = wide.strings if isinstance(wide, Paths) else wide
    n = narrow.strings if isinstance(narrow, Paths) else narrow
    templates = narrow.templates if isinstance(narrow, Paths) else ()
    known = {each.text for each in wide.templates} if isinstance(wide, Paths) else set()
    heads = (each.text.partition("{")[0] for each in templates if each.text not in known)
    if w.present:
        return "" not in n.exact and "" not in n.prefixes and "" not in n.suffixes
    return (
        not n.present
        and all(wide.matches(text) for text in n.exact)
        and all(prefix.startswith(w.prefixes) for prefix in n.prefixes)
        and all(suffix.endswith(w.suffixes) for suffix in n.suffixes)
        and all(head.startswith(w.prefixes) for head in heads)
    )


def term_covers(wide: Term, narrow: Term, trust_domains: Collection[str]) -> bool:
    """Return whether a request that satisfies `narrow` satisfies `wide`."""
    if (wide.attribute, wide.key) != (narrow.attribute, narrow.key):
        return _holds_for_all_of(wide, narrow, trust_domains)
    if narrow.if_absent and not wide.if_absent:
        return False
    if not wide.negative:
        return not narrow.negative and values_cover(wide.values, narrow.values)
    if narrow.negative:
        absent = narrow.needs_value or not wide.needs_value
        return absent and values_cover(narrow.values, wide.values)
    return _is_disjoint(wide, narrow)


def _is_disjoint(negative: Term, positive: Term) -> bool:
    """Return whether no text of `positive` is one that `negative` excludes."""
    if negative.attribute in TOKEN or not positive.values.is_exact:
        return False
    return not any(negative.values.matches(text) for text in positive.values.exact)


def _holds_for_all_of(wide: Term, narrow: Term, trust_domains: Collection[str]) -> bool:
    """Return whether `wide` holds for every peer that `narrow` names exactly."""
    if narrow.attribute is not Attribute.PRINCIPAL or wide.attribute not in IDENTITY:
        return False
    if narrow.negative or narrow.if_absent or not narrow.values.is_exact:
        return False
    return all(
        wide.holds(peer_facts(SpiffeId.parse(f"spiffe://{text}"), trust_domains))
        for text in narrow.values.exact
    )


def rule_covers(wide: Rule, narrow: Rule, trust_domains: Collection[str]) -> bool:
    """Return whether `wide` holds for every request that `narrow` holds for, whatever they do.

    An ALLOW rule that looks at HTTP never holds on TCP, where another may.
    """
    if wide.action is Action.ALLOW and wide.http_only and not narrow.http_only:
        return False
    if wide.expires is not None and (narrow.expires is None or wide.expires < narrow.expires):
        return False

    def covered(wanted: Sequence[Conjunction], given: Sequence[Conjunction]) -> bool:
        return not wanted or all(
            any(_conjunction_covers(each, (*one, *narrow.conditions), trust_domains)
                for each in wanted)
            for one in given or ((),)
        )  # fmt: skip

    return (
        covered(wide.sources, narrow.sources)
        and covered(wide.operations, narrow.operations)
        and _conjunction_covers(wide.conditions, narrow.conditions, trust_domains)
    )


def _conjunction_covers(
    wide: Conjunction, narrow: Iterable[Term], trust_domains: Collection[str]
) -> bool:
    given = tuple(narrow)
    return all(any(term_covers(w, n, trust_domains) for n in given) for w in wide)


def selection_covers(wide: Policy, narrow: Policy, root_namespace: str) -> bool:
    """Return whether `wide` selects every workload that `narrow` does."""
    if wide.namespace not in (root_namespace, narrow.namespace):
        return False
    if wide.gateways and not (narrow.gateways and narrow.gateways <= wide.gateways):
        return False
    return wide.selector <= narrow.selector


def contradiction(terms: Sequence[Term], trust_domains: Collection[str]) -> str:
    """Return why no request satisfies all of `terms`, as far as can be proved; empty if not.

    A request that lacks an attribute may still satisfy terms that hold for want of it.
    """
    for term in terms:
        if term.negative or term.if_absent or term.attribute in TOKEN:
            continue
        for other in terms:
            if other is not term and _excludes(other, term, trust_domains):
                return f"{term.field} and {other.field} leave nothing"
    return ""


def _excludes(other: Term, positive: Term, trust_domains: Collection[str]) -> bool:
    """Return whether `other` fails for every text of `positive`."""
    if (other.attribute, other.key) == (positive.attribute, positive.key):
        if other.negative:
            return values_cover(other.values, positive.values)
        exact = positive.values.is_exact
        return exact and not any(other.values.matches(text) for text in positive.values.exact)
    if positive.attribute is not Attribute.PRINCIPAL or other.attribute not in IDENTITY:
        return False
    return positive.values.is_exact and not any(
        other.holds(peer_facts(SpiffeId.parse(f"spiffe://{text}"), trust_domains))
        for text in positive.values.exact
    )
