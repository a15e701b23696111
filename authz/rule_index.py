"""The rules of one action, found by what their sources and operations name.

A decision so looks at the few rules that could hold: those that name the peer's principal, its
service account or its namespace, and those that name nobody; of each of these, when they are
many, those that name the path or a directory above it, and those that name no path.

Rules. The index leaves out only what cannot hold: whatever it finds is asked whether it holds. A
path that is not known is looked for nowhere: all rules are asked. At most the first `_DEPTH`
directories of a path are looked up, however long it is.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from authz.attributes import Attribute, Facts
from authz.policy import Conjunction, Rule, Term
from authz.values import Paths, Strings, Values

_KEYS: Final = (Attribute.PRINCIPAL, Attribute.SERVICE_ACCOUNT, Attribute.NAMESPACE)
"""What rules are found by, the most telling first."""

_PATH: Final = int(Attribute.PATH)
_DEPTH: Final = 4
_FEW: Final = 4
"""So many rules are asked one by one sooner than looked up."""


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Many rules in their order; `by_path` finds those that are not `pathless`."""

    rules: Sequence[Rule]
    pathless: Sequence[Rule]
    by_path: Mapping[str, Sequence[Rule]]

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> "_Bucket":
        pathless: list[Rule] = []
        by_path: dict[str, list[Rule]] = defaultdict(list)
        for rule in rules:
            keys = _path_keys_of(rule)
            if keys is None:
                pathless.append(rule)
            for key in keys or ():
                by_path[key].append(rule)
        return cls(rules, pathless, dict(by_path))

    def find(self, facts: Facts, time: float | None, *, on_tcp: bool) -> Rule | None:
        """Return a rule that holds."""
        path = facts[_PATH]
        if path is None:
            return _first(self.rules, facts, time, on_tcp=on_tcp)
        rule = _first(self.pathless, facts, time, on_tcp=on_tcp) if self.pathless else None
        if rule is not None:
            return rule
        for key in _looked_up(path):
            named = self.by_path.get(key)
            if named is not None:
                rule = _first(named, facts, time, on_tcp=on_tcp)
                if rule is not None:
                    return rule
        return None


@dataclass(frozen=True, slots=True)
class RuleIndex:
    """The rules of one action in their order, and found by what their sources name exactly."""

    rules: tuple[Rule, ...]
    named: tuple[tuple[int, Mapping[str, _Bucket | list[Rule]]], ...]
    general: _Bucket | list[Rule]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> "RuleIndex":
        """Return the index of `rules`."""
        ordered = tuple(rules)
        named: dict[Attribute, dict[str, list[Rule]]] = {key: defaultdict(list) for key in _KEYS}
        general: list[Rule] = []
        for rule in ordered:
            names = _names(rule)
            for attribute, texts in names.items():
                for text in texts:
                    named[attribute][text].append(rule)
            if not names:
                general.append(rule)
        return cls(
            ordered,
            tuple(
                (int(key), {text: _kept(found) for text, found in named[key].items()})
                for key in _KEYS
                if named[key]
            ),
            _kept(general),
        )

    def find(self, facts: Facts, *, time: float | None, on_tcp: bool = False) -> Rule | None:
        """Return a rule that holds; `on_tcp` leaves out rules that look at what only HTTP has."""
        for attribute, buckets in self.named:
            found = buckets.get(facts[attribute])
            if found is not None:
                rule = _find(found, facts, time, on_tcp=on_tcp)
                if rule is not None:
                    return rule
        return _find(self.general, facts, time, on_tcp=on_tcp) if self.general else None

    def find_all(self, facts: Facts, *, time: float | None) -> Iterator[Rule]:
        """Yield each rule that holds, in their order."""
        for rule in self.rules:
            if rule.holds(facts) and not rule.is_over(time):
                yield rule


def _kept(rules: list[Rule]) -> _Bucket | list[Rule]:
    return _Bucket.of(rules) if len(rules) > _FEW else rules


def _find(
    rules: _Bucket | list[Rule], facts: Facts, time: float | None, *, on_tcp: bool
) -> Rule | None:
    if isinstance(rules, list):
        return _first(rules, facts, time, on_tcp=on_tcp)
    return rules.find(facts, time, on_tcp=on_tcp)


def _first(rules: Sequence[Rule], facts: Facts, time: float | None, *, on_tcp: bool) -> Rule | None:
    for rule in rules:
        if on_tcp and rule.http_only:
            continue
        if rule.holds(facts) and (rule.expires is None or not rule.is_over(time)):
            return rule
    return None


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
            positive = term.attribute is attribute and not term.negative and not term.if_absent
            if positive and term.values.is_exact:
                return term
    return None


def _path_keys_of(rule: Rule) -> set[str] | None:
    """Return what one of is looked up for each path that `rule` can hold for; None if unknown."""
    keys: set[str] = set()
    for operation in rule.operations:
        term = next((t for t in operation if t.attribute == _PATH and not t.negative), None)
        found = None if term is None else _path_keys(term.values)
        if found is None:
            return None
        keys |= found
    return keys or None


def _path_keys(values: Values) -> set[str] | None:
    templates = values.templates if isinstance(values, Paths) else ()
    strings = values.strings if isinstance(values, Paths) else values
    if not isinstance(strings, Strings) or strings.suffixes or strings.present:
        return None
    heads = (*strings.prefixes, *(each.text.partition("{")[0] for each in templates))
    directories = [_directories(head) for head in heads]
    if not all(directories):
        return None
    return {*strings.exact, *(above[-1] for above in directories)}


@lru_cache(maxsize=8)
def _looked_up(path: str) -> tuple[str, ...]:
    """Return what to look up for `path`; remembered for the few times that a decision asks."""
    return (path, *_directories(path))


def _directories(path: str) -> list[str]:
    """Return the first directories above `path`, each with its final slash, from the top."""
    found: list[str] = []
    end = path.find("/") + 1
    while end and len(found) < _DEPTH:
        found.append(path[:end])
        end = path.find("/", end) + 1
    return found
