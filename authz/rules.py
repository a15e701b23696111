"""Reading the rules of one AuthorizationPolicy: sources, operations and conditions.

Namespaces and service accounts are those of peers of our own trust domain; where a source (or the
conditions of its rule) names trust domains, they are of any, since the domain is compared as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from authz.attributes import IDENTITY, TOKEN, Attribute
from authz.fields import FROM, KEYS, TO, Field, Part, find_condition
from authz.policy import Action, Conjunction, Rule, Term
from authz.reader import StrictReader
from authz.terms import TermReader
from meshca.yaml_source import Path

MAXIMUM_RULES: Final = 512
MAXIMUM_ALTERNATIVES: Final = 512

_SOURCE_TRUST_DOMAIN = "source.trustDomain"
_OF_A_NAMESPACE = frozenset({Attribute.NAMESPACE, Attribute.SERVICE_ACCOUNT})
_BESIDE_SERVICE_ACCOUNTS = ("principals", "notPrincipals", "namespaces", "notNamespaces")
_WITHOUT_RULES: Final = {
    Action.DENY: "DENY without rules denies nothing; write a rule, or `rules: [{}]` to deny all",
    Action.CUSTOM: "CUSTOM without rules asks nobody; write a rule, or `rules: [{}]` to ask always",
}


@dataclass(frozen=True, slots=True)
class RuleReader:
    """Reads the rules of the policy `namespace/name`."""

    strict: StrictReader
    namespace: str
    name: str
    action: Action
    trust_domains: tuple[str, ...]
    expires: float | None
    provider: str

    def rules(self, spec: Mapping[str, Any]) -> tuple[Rule, ...]:
        """Return the rules of `spec`, noting what is wrong with them."""
        if "rules" not in spec:
            if message := _WITHOUT_RULES.get(self.action):
                self.strict.problem(("spec",), message)
            return ()
        path: Path = ("spec", "rules")
        entries = self.strict.entries(path, spec["rules"], at_most=MAXIMUM_RULES)
        return tuple(self._rule((*path, index), value) for index, value in enumerate(entries))

    def _rule(self, path: Path, value: Any) -> Rule:
        rule = self.strict.mapping(path, value, ("from", "to", "when")) or {}
        in_conditions = _conditions_name_trust_domain(rule.get("when"))
        sources = self._alternatives(path, rule, FROM, any_trust_domain=in_conditions)
        in_sources = [_names_trust_domain(source) for source in sources]
        any_trust_domain = in_conditions or (bool(in_sources) and all(in_sources))
        conditions = self._conditions(path, rule, any_trust_domain=any_trust_domain)
        if any(in_sources) and not any_trust_domain:
            self._refuse_mixed_sources(path, conditions)
        return Rule.of(
            self.namespace,
            self.name,
            int(path[-1]),
            action=self.action,
            sources=sources,
            operations=self._alternatives(path, rule, TO),
            conditions=conditions,
            expires=self.expires,
            provider=self.provider,
        )

    def _refuse_mixed_sources(self, path: Path, conditions: Conjunction) -> None:
        for term in conditions:
            if term.attribute in _OF_A_NAMESPACE:
                self.strict.problem(
                    (*path, "when"),
                    f"{term.field} beside sources of which only some name trustDomains says two "
                    "things; write it into each source instead",
                )

    def _alternatives(
        self, path: Path, rule: Mapping[str, Any], part: Part, *, any_trust_domain: bool = False
    ) -> tuple[Conjunction, ...]:
        """Return the conjunctions of `part`, one for each of its sources or operations."""
        if part.key not in rule:
            return ()
        path = (*path, part.key)
        conjunctions: list[Conjunction] = []
        entries = self.strict.entries(path, rule[part.key], at_most=MAXIMUM_ALTERNATIVES)
        for index, entry in enumerate(entries):
            wrapper = self.strict.mapping((*path, index), entry, (part.inner,))
            if wrapper is None:
                continue
            inner = (*path, index, part.inner)
            fields = self.strict.mapping(inner, wrapper.get(part.inner), part.names)
            if fields is None:
                continue
            if not fields:
                advice = f"an empty {part.inner} would match everything; leave it out"
                self.strict.problem(inner, advice)
            terms = self._terms(inner, fields, part, any_trust_domain=any_trust_domain)
            conjunctions.append(tuple(terms))
        return tuple(conjunctions)

    def _terms(
        self, path: Path, fields: Mapping[str, Any], part: Part, *, any_trust_domain: bool
    ) -> Iterator[Term]:
        if "serviceAccounts" in fields or "notServiceAccounts" in fields:
            for other in _BESIDE_SERVICE_ACCOUNTS:
                if other in fields:
                    self.strict.problem((*path, other), "cannot stand beside serviceAccounts")
        any_trust_domain = any_trust_domain or "trustDomains" in fields
        for name, (field, negative) in part.names.items():
            if name not in fields:
                continue
            spec = part.fields[field]
            self._refuse_for_custom((*path, name), name, spec)
            yield self._reader.read(
                (*path, name),
                fields[name],
                name,
                spec,
                negative=negative,
                any_trust_domain=any_trust_domain,
            )

    def _conditions(
        self, path: Path, rule: Mapping[str, Any], *, any_trust_domain: bool
    ) -> Conjunction:
        if "when" not in rule:
            return ()
        path = (*path, "when")
        terms: list[Term] = []
        entries = self.strict.entries(path, rule["when"], at_most=MAXIMUM_ALTERNATIVES)
        for index, entry in enumerate(entries):
            place = (*path, index)
            condition = self.strict.mapping(place, entry, ("key", "values", "notValues"))
            if condition is not None:
                terms += self._condition(place, condition, any_trust_domain=any_trust_domain)
        return tuple(terms)

    def _condition(
        self, path: Path, condition: Mapping[str, Any], *, any_trust_domain: bool
    ) -> Iterator[Term]:
        if "values" not in condition and "notValues" not in condition:
            self.strict.problem(path, "compares with nothing; write values or notValues")
        key = self.strict.text((*path, "key"), condition.get("key"))
        spec = None if key is None else self._find((*path, "key"), key)
        if key is None or spec is None:
            return
        self._refuse_for_custom((*path, "key"), key, spec)
        for name, negative in (("values", False), ("notValues", True)):
            if name in condition:
                yield self._reader.read(
                    (*path, name),
                    condition[name],
                    key,
                    spec,
                    negative=negative,
                    any_trust_domain=any_trust_domain,
                )

    def _find(self, path: Path, key: str) -> Field | None:
        try:
            spec = find_condition(key)
        except ValueError as error:
            self.strict.problem(path, str(error))
            return None
        if spec is None:
            self.strict.unknown(path, f"{key!r} is not a condition", key, KEYS)
        return spec

    def _refuse_for_custom(self, path: Path, name: str, spec: Field) -> None:
        if self.action is Action.CUSTOM and spec.attribute in IDENTITY | TOKEN:
            self.strict.problem(
                path,
                f"a CUSTOM policy cannot look at {name}: its provider is asked whoever calls; "
                "let the provider compare it, or write a DENY or ALLOW policy beside it",
            )

    @property
    def _reader(self) -> TermReader:
        return TermReader(self.strict, self.namespace, self.action, self.trust_domains)


def _names_trust_domain(terms: Conjunction) -> bool:
    return any(term.attribute is Attribute.TRUST_DOMAIN and not term.negative for term in terms)


def _conditions_name_trust_domain(entries: Any) -> bool:
    return isinstance(entries, list) and any(
        isinstance(entry, dict) and entry.get("key") == _SOURCE_TRUST_DOMAIN and "values" in entry
        for entry in entries
    )
