"""The rules of one action, found by what their sources name exactly.

A decision so looks at the few rules that could hold: those that name the peer's principal, its
service account or its namespace, and those that name nobody.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from authz.attributes import Attribute, Facts
from authz.policy import Conjunction, Rule, Term

_KEYS: Final = (Attribute.PRINCIPAL, Attribute.SERVICE_ACCOUNT, Attribute.NAMESPACE)
"""What rules are found by, the most telling first."""


@dataclass(frozen=True, slots=True)
class RuleIndex:
    """The rules of one action in their order, and found by what their sources name exactly."""

    rules: tuple[Rule, ...]
    named: Mapping[Attribute, Mapping[str, list[Rule]]]
    general: list[Rule]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> "RuleIndex":
        """Return the index of `rules`."""
        named: dict[Attribute, dict[str, list[Rule]]] = {key: defaultdict(list) for key in _KEYS}
        index = cls(tuple(rules), named, [])
        for rule in index.rules:
            names = _names(rule)
            for attribute, texts in names.items():
                for text in texts:
                    named[attribute][text].append(rule)
            if not names:
                index.general.append(rule)
        return index

    def find(self, facts: Facts, *, time: float | None, on_tcp: bool = False) -> Rule | None:
        """Return a rule that holds; `on_tcp` leaves out rules that look at what only HTTP has."""
        for attribute in _KEYS:
            value = facts[attribute]
            if value is None:
                continue
            for rule in self.named[attribute].get(value, ()):
                if _holds(rule, facts, time, on_tcp=on_tcp):
                    return rule
        for rule in self.general:
            if _holds(rule, facts, time, on_tcp=on_tcp):
                return rule
        return None

    def find_all(self, facts: Facts, *, time: float | None) -> Iterator[Rule]:
        """Yield each rule that holds, in their order."""
        return (rule for rule in self.rules if _holds(rule, facts, time, on_tcp=False))


def _holds(rule: Rule, facts: Facts, time: float | None, *, on_tcp: bool) -> bool:
    if on_tcp and rule.http_only:
        return False
    return rule.holds(facts) and (rule.expires is None or not rule.is_over(time))


def _names(rule: Rule) -> dict[Attribute, set[str]]:
    """Return what a peer has one of whenever a source of `rule` holds, by attribute.

    Empty when other peers, too, may satisfy the rule.
    """
    names: dict[Attribute, set[str]] = {}
    for source in rule.sources:
        term = _exact_identity(source)
        if term is None:
            return {}
        names.setdefault(term.attribute, set()).update(term.values.exact)
    return names


def _exact_identity(source: Conjunction) -> Term | None:
    for attribute in _KEYS:
        for term in source:
            if term.attribute is attribute and not term.negative and term.values.is_exact:
                return term
    return None
