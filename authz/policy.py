"""The policy model: what a set of AuthorizationPolicy documents means, parsed once.

    PolicySet -> Policy (ALLOW or DENY, selects workloads) -> Rule -> sources and operations

Rules. A rule holds when one of its sources and one of its operations holds; a source or an
operation is a conjunction of terms; a term compares one attribute with the OR of its values. No
sources (or no operations) is no constraint. A set is immutable, ordered by namespace and name,
and its version is a hash of what it means, so equal sets have equal versions on every replica.

An attribute that a request does not have is not a value. A positive identity term then fails. A
negative identity term, and any term on an attribute the request lacks (a path on TCP), fails in
ALLOW and holds in DENY: what cannot be decided never lets a request through.

A further field of the language is one more `Attribute` with its value parser (`authz.fields`) and
its predicates (`authz.predicates`); nothing else here changes. This file reads no YAML.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Literal

import orjson

from meshca.errors import Problem

Default = Literal["allow", "deny"]
"""What holds for a workload that no ALLOW policy selects."""


class Action(StrEnum):
    """What a policy does with a request that one of its rules holds for."""

    ALLOW = "ALLOW"
    DENY = "DENY"


class Attribute(IntEnum):
    """What a term looks at; the number is the attribute's place in `Facts`."""

    PRINCIPAL = 0
    NAMESPACE = 1
    PORT = 2
    METHOD = 3
    PATH = 4


IDENTITY = frozenset({Attribute.PRINCIPAL, Attribute.NAMESPACE})
HTTP_ONLY = frozenset({Attribute.METHOD, Attribute.PATH})

Facts = tuple[str | None, ...]
"""One request's value of each attribute, in the order of `Attribute`; None where it has none."""


@dataclass(frozen=True, slots=True)
class Strings:
    """The OR of match forms; `present` matches any non-empty text. No form matches nothing."""

    exact: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()
    suffixes: tuple[str, ...] = ()
    present: bool = False
    is_exact: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        patterns = self.prefixes or self.suffixes or self.present
        object.__setattr__(self, "is_exact", not patterns)

    def matches(self, text: str) -> bool:
        """Return whether one of the forms matches `text`."""
        if text in self.exact:
            return True
        return not self.is_exact and (
            text.startswith(self.prefixes)
            or text.endswith(self.suffixes)
            or (self.present and text != "")
        )

    def written(self) -> list[str]:
        """Return the values as a document writes them, in a fixed order."""
        return [
            *(["*"] if self.present else []),
            *sorted(self.exact),
            *(f"{prefix}*" for prefix in sorted(self.prefixes)),
            *(f"*{suffix}" for suffix in sorted(self.suffixes)),
        ]


@dataclass(frozen=True, slots=True)
class Term:
    """One field of a source or an operation: `attribute` is, or is not (`negative`), in `values`.

    `field` is the field's name in the document; `if_absent` is whether the term holds for a
    request without the attribute.
    """

    field: str
    attribute: Attribute
    values: Strings
    negative: bool
    if_absent: bool

    def holds(self, facts: Facts) -> bool:
        """Return whether the term holds for a request with these `facts`."""
        value = facts[self.attribute]
        if value is None:
            return self.if_absent
        values = self.values
        matched = value in values.exact or (not values.is_exact and values.matches(value))
        return matched is not self.negative


Conjunction = tuple[Term, ...]
"""A source or an operation: it holds when all of its terms do."""


def any_holds(alternatives: tuple[Conjunction, ...], facts: Facts) -> bool:
    """Return whether one of `alternatives` holds; none at all is no constraint."""
    for terms in alternatives:
        for term in terms:
            if not term.holds(facts):
                break
        else:
            return True
    return not alternatives


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; `policy` is `namespace/name`, `index` its place in the policy, from 0.

    `name` is how proxies name it in access logs and statistics. `http_only` says that a term
    looks at what only HTTP has: such a rule of an ALLOW policy never holds on TCP.
    """

    policy: str
    index: int
    name: str
    sources: tuple[Conjunction, ...]
    operations: tuple[Conjunction, ...]
    http_only: bool

    @classmethod
    def of(
        cls,
        namespace: str,
        policy: str,
        index: int,
        *,
        sources: tuple[Conjunction, ...] = (),
        operations: tuple[Conjunction, ...] = (),
    ) -> "Rule":
        """Return rule `index` of policy `namespace/policy`."""
        return cls(
            policy=f"{namespace}/{policy}",
            index=index,
            name=f"ns[{namespace}]-policy[{policy}]-rule[{index}]",
            sources=sources,
            operations=operations,
            http_only=any(
                term.attribute in HTTP_ONLY for terms in (*sources, *operations) for term in terms
            ),
        )

    def holds(self, facts: Facts) -> bool:
        """Return whether the rule holds for a request with these `facts`."""
        return any_holds(self.sources, facts) and any_holds(self.operations, facts)


@dataclass(frozen=True, slots=True, init=False)
class Workload:
    """A destination: the namespace and labels that decide which policies select it."""

    namespace: str
    labels: frozenset[tuple[str, str]]
    _hash: int = field(repr=False, compare=False)

    def __init__(self, namespace: str, labels: Mapping[str, str] | None = None) -> None:
        pairs = frozenset((labels or {}).items())
        object.__setattr__(self, "namespace", namespace)
        object.__setattr__(self, "labels", pairs)
        object.__setattr__(self, "_hash", hash((namespace, pairs)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class Policy:
    """One AuthorizationPolicy; an empty `selector` selects every workload of its namespace.

    ALLOW without rules never matches, which denies: it still counts as an attached ALLOW.
    `source` and `line` say where it was read and are no part of its meaning.
    """

    namespace: str
    name: str
    action: Action
    selector: frozenset[tuple[str, str]]
    rules: tuple[Rule, ...]
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    def selects(self, workload: Workload) -> bool:
        """Return whether the selector's labels are among the workload's (namespaces apart)."""
        return self.selector <= workload.labels


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Every policy in force together, loaded and checked as a whole; build one with `of`.

    `version` is the hash of its meaning; `warnings` are what an author should know and are no
    part of it. `compiled` is the memory of `authz.engine.compile_workload`.
    """

    policies: tuple[Policy, ...]
    version: str
    trust_domain: str
    root_namespace: str
    default: Default
    by_namespace: Mapping[str, tuple[Policy, ...]] = field(compare=False, repr=False)
    warnings: tuple[Problem, ...] = field(default=(), compare=False, repr=False)
    compiled: dict[Workload, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        policies: Iterable[Policy],
        *,
        trust_domain: str,
        root_namespace: str,
        default: Default,
        warnings: tuple[Problem, ...] = (),
    ) -> "PolicySet":
        """Return the set of `policies`, whose order does not matter."""
        ordered = tuple(sorted(policies, key=lambda policy: (policy.namespace, policy.name)))
        groups = itertools.groupby(ordered, key=lambda policy: policy.namespace)
        by_namespace = {namespace: tuple(group) for namespace, group in groups}
        meaning = [trust_domain, root_namespace, default, [_meaning(p) for p in ordered]]
        return cls(
            policies=ordered,
            version=hashlib.sha256(orjson.dumps(meaning)).hexdigest()[:32],
            trust_domain=trust_domain,
            root_namespace=root_namespace,
            default=default,
            by_namespace=by_namespace,
            warnings=warnings,
        )

    @classmethod
    def empty(cls, *, trust_domain: str, root_namespace: str) -> "PolicySet":
        """Return the set that holds before the first one is loaded: no policy, deny."""
        return cls.of((), trust_domain=trust_domain, root_namespace=root_namespace, default="deny")

    def policies_for(self, workload: Workload) -> tuple[Policy, ...]:
        """Return the policies attached to `workload`: of its namespace and the root namespace."""
        namespaces = dict.fromkeys((self.root_namespace, workload.namespace))
        return tuple(
            policy
            for namespace in namespaces
            for policy in self.by_namespace.get(namespace, ())
            if policy.selects(workload)
        )


def _meaning(policy: Policy) -> list[Any]:
    """Return what `policy` means as plain values, the same for every way of writing it down."""
    rules = [
        [
            [[[term.field, term.values.written()] for term in terms] for terms in alternatives]
            for alternatives in (rule.sources, rule.operations)
        ]
        for rule in policy.rules
    ]
    return [policy.namespace, policy.name, policy.action, sorted(policy.selector), rules]
