"""The rules of one action as entries of a filter, those for exact principals as maps."""

from collections.abc import Iterable, Iterator
from typing import Final

from authz.attributes import IDENTITY
from authz.matchers import Entry, act, by_principal, choice
from authz.policy import Action, Conjunction, Rule
from authz.predicates import HAS_IDENTITY, all_of
from authz.principals import split_sources
from authz.term_predicates import View, alternatives_predicate, conjunction_predicate

_OWN_MAP_FROM: Final = 17
"""A rule with conditions and this many exact principals gets a map of its own, so that its
conditions are written once and not once for each principal."""


def rule_entries(rules: Iterable[Rule], action: Action, view: View) -> Iterator[Entry]:
    """Yield the entries of `rules`, which all do `action`: those with maps first."""
    shared: dict[str, list[Entry]] = {}
    own: list[Entry] = []
    others: list[Entry] = []
    for rule in rules:
        outcome = act(rule.name, action)
        operations = alternatives_predicate(rule.operations, view)
        sources, conditions = _with_identity(rule)
        always = all_of((operations, conjunction_predicate(conditions, view)))
        if always is False:
            continue
        split = split_sources(sources, view)
        others.append((all_of((split.others, always)), outcome))
        for named in split.named:
            condition = all_of((named.condition, always))
            if condition is not True and len(named.principals) >= _OWN_MAP_FROM:
                own.append((condition, by_principal(dict.fromkeys(named.principals, outcome))))
                continue
            for principal in named.principals:
                shared.setdefault(principal, []).append((condition, outcome))
    nested = {name: choice(entries) for name, entries in shared.items() if _may_match(entries)}
    if nested:
        yield HAS_IDENTITY, by_principal(nested)
    yield from own
    yield from others


def _may_match(entries: list[Entry]) -> bool:
    return any(condition is not False for condition, _ in entries)


def _with_identity(rule: Rule) -> tuple[tuple[Conjunction, ...], Conjunction]:
    """Return the sources of `rule`, with what its conditions say of identity; and the rest."""
    identity = tuple(term for term in rule.conditions if term.attribute in IDENTITY)
    if not identity:
        return rule.sources, rule.conditions
    rest = tuple(term for term in rule.conditions if term.attribute not in IDENTITY)
    return tuple((*source, *identity) for source in rule.sources or ((),)), rest
