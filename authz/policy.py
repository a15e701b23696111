"""The policy model: what a set of policy documents means, parsed once.

    PolicySet -> Policy (what it does, whom it selects) -> Rule -> sources, operations, conditions

Rules. A rule holds when one of its sources, one of its operations and all of its conditions hold;
a source or an operation is a conjunction of terms; a term compares one attribute with the OR of
its values. No sources (or no operations) is no constraint. A set is immutable, ordered by
namespace and name, and its version is a hash of what it means, so equal sets have equal versions
on every replica.

What a request does not have is no value (authz/attributes.py tells three kinds apart). What is not
known fails in ALLOW and holds in DENY: what cannot be decided never lets a request through. A
negative term on the identity of a peer or a token needs one to hold in ALLOW.

A further field of the language is one more `Attribute` with its value parser (`authz.fields`) and
its predicates (`authz.predicates`); nothing else here changes. This file reads no YAML.
"""

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

import orjson

from authz.attributes import HTTP_ONLY, TOKEN, Attribute, Facts, texts_of
from authz.overlay import NO_OVERLAY, Overlay
from authz.peer_authentication import PeerAuthentication
from authz.request_authentication import RequestAuthentication
from authz.values import Values
from authz.workload import Workload
from meshca.errors import Problem

Default = Literal["allow", "deny"]
"""What holds for a workload that no ALLOW policy selects."""


class Action(StrEnum):
    """What a policy does with a request that one of its rules holds for."""

    CUSTOM = "CUSTOM"
    DENY = "DENY"
    ALLOW = "ALLOW"
    AUDIT = "AUDIT"


class Stage(StrEnum):
    """How far a policy has come: written, watched, in force somewhere, in force."""

    DRAFT = "draft"
    SHADOW = "shadow"
    CANARY = "canary"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True)
class Term:
    """One field of a source or an operation, or one condition.

    `attribute` (with `key`, where it is keyed) is, or is not (`negative`), one of `values`.
    `field` is the field's name in the document, or the condition's whole key. `if_absent` is
    whether it holds where the attribute is not known; `needs_value`, of a negative term, that a
    request known to have no value does not satisfy it.
    """

    field: str
    attribute: Attribute
    values: Values
    negative: bool
    if_absent: bool
    key: tuple[str, ...] = ()
    needs_value: bool = False

    def holds(self, facts: Facts) -> bool:
        """Return whether the term holds for a request with these `facts`."""
        value = facts[self.attribute]
        if value is None:
            return self.if_absent
        values = self.values
        if type(value) is str:
            matched = value in values.exact or (not values.is_exact and values.matches(value))
            return matched is not self.negative
        texts = texts_of(value, self.key)
        if not texts:
            return self.negative and not self.needs_value
        return any(values.matches(text) for text in texts) is not self.negative


Conjunction = tuple[Term, ...]
"""A source, an operation or all conditions: it holds when all of its terms do."""


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
    looks at what only HTTP has: such a rule of an ALLOW policy never holds on TCP; `token_only`
    that one looks at a token. After `expires` (seconds since the epoch) it never holds; at a time
    that is not known it does in DENY and CUSTOM, and does not in ALLOW. `provider` is who decides
    about a request that it holds for, where `action` is CUSTOM.
    """

    policy: str
    index: int
    name: str
    action: Action
    sources: tuple[Conjunction, ...]
    operations: tuple[Conjunction, ...]
    conditions: Conjunction
    http_only: bool
    token_only: bool
    expires: float | None
    provider: str

    @classmethod
    def of(
        cls,
        namespace: str,
        policy: str,
        index: int,
        *,
        action: Action = Action.ALLOW,
        sources: tuple[Conjunction, ...] = (),
        operations: tuple[Conjunction, ...] = (),
        conditions: Conjunction = (),
        expires: float | None = None,
        provider: str = "",
    ) -> "Rule":
        """Return rule `index` of policy `namespace/policy`."""
        used = {term.attribute for terms in (*sources, *operations, conditions) for term in terms}
        return cls(
            policy=f"{namespace}/{policy}",
            index=index,
            name=f"ns[{namespace}]-policy[{policy}]-rule[{index}]",
            action=action,
            sources=sources,
            operations=operations,
            conditions=conditions,
            http_only=bool(used & HTTP_ONLY),
            token_only=bool(used & TOKEN),
            expires=expires,
            provider=provider,
        )

    def holds(self, facts: Facts) -> bool:
        """Return whether the rule holds for a request with these `facts`; time apart."""
        if not any_holds(self.sources, facts) or not any_holds(self.operations, facts):
            return False
        return not self.conditions or all(term.holds(facts) for term in self.conditions)

    def is_over(self, time: float | None) -> bool:
        """Return whether the rule has ended at `time` (None: not known)."""
        if self.expires is None:
            return False
        return self.action is Action.ALLOW if time is None else time >= self.expires

    def all_terms(self) -> Iterable[Term]:
        """Yield every term of the rule."""
        return itertools.chain(*self.sources, *self.operations, self.conditions)


@dataclass(frozen=True)  # without slots: thousands are moved at once (authz.load_memory)
class Policy:
    """One AuthorizationPolicy; an empty `selector` selects every workload of its namespace.

    `gateways` (of targetRefs), if any are named, narrows that to workloads that implement one.
    ALLOW without rules never matches, which denies: it still counts as an attached ALLOW, as does
    one whose rules have all expired. `canary` are the namespaces of the destinations for which a
    policy at stage CANARY is in force. `break_glass`, if not empty, is why the policy exists: it
    is in force only while a second person's approval of its `digest` stands. `source` and `line`
    say where it was read and are no part of its meaning. `made` remembers what was worked out from
    the meaning alone; the same policy read at another place shares it, and what `replace` makes,
    which may mean something else, begins without.
    """

    namespace: str
    name: str
    action: Action
    selector: frozenset[tuple[str, str]]
    rules: tuple[Rule, ...]
    gateways: frozenset[str] = frozenset()
    provider: str = ""
    stage: Stage = Stage.ENFORCE
    canary: frozenset[str] = frozenset()
    expires: float | None = None
    break_glass: str = ""
    made: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    @property
    def full_name(self) -> str:
        """Return `namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def digest(self) -> str:
        """Return a hash of what the policy means, which an approval names."""
        digest: str | None = self.made.get("digest")  # asked for at each load and decision
        if digest is None:
            digest = hashlib.sha256(orjson.dumps(_meaning(self))).hexdigest()[:32]
            self.made["digest"] = digest
        return digest

    def selects(self, workload: Workload) -> bool:
        """Return whether selector and gateways select `workload`; a Gateway is of its namespace.

        That a selector is for one namespace, or from the root namespace for all, is left apart.
        """
        if self.gateways and workload.namespace != self.namespace:
            return False
        return workload.is_selected(self.selector, self.gateways)

    def is_enforced_for(self, workload: Workload) -> bool:
        """Return whether its stage puts it in force for `workload`."""
        if self.stage is Stage.CANARY:
            return workload.namespace in self.canary
        return self.stage is Stage.ENFORCE


@dataclass(frozen=True, slots=True)
class PolicySet:
    """Every document in force together, loaded and checked as a whole; build one with `of`.

    `aliases` are further names of our own trust domain. `overlay` is what operators have laid over
    the documents: a staged change, approvals, bypasses. `version` is the hash of the meaning of
    it all; `warnings` are what an author should know and are no part of it. `compiled` is the
    memory of `authz.engine.compile_workload`.
    """

    policies: tuple[Policy, ...]
    peer_authentications: tuple[PeerAuthentication, ...]
    request_authentications: tuple[RequestAuthentication, ...]
    version: str
    trust_domain: str
    aliases: tuple[str, ...]
    root_namespace: str
    default: Default
    overlay: Overlay["PolicySet"]
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
        aliases: Iterable[str] = (),
        peer_authentications: Iterable[PeerAuthentication] = (),
        request_authentications: Iterable[RequestAuthentication] = (),
        warnings: tuple[Problem, ...] = (),
    ) -> "PolicySet":
        """Return the set of these documents, whose order does not matter."""
        ordered = tuple(sorted(policies, key=_place))
        groups = itertools.groupby(ordered, key=lambda policy: policy.namespace)
        peers = tuple(sorted(peer_authentications, key=_place))
        requests = tuple(sorted(request_authentications, key=_place))
        known = tuple(sorted(set(aliases) - {trust_domain}))
        meaning = [
            *(trust_domain, known, root_namespace, default),
            [policy.digest for policy in ordered],
            [_peer_meaning(each) for each in peers],
            [_request_meaning(each) for each in requests],
        ]
        return cls(
            policies=ordered,
            peer_authentications=peers,
            request_authentications=requests,
            version=hashlib.sha256(orjson.dumps(meaning)).hexdigest()[:32],
            trust_domain=trust_domain,
            aliases=known,
            root_namespace=root_namespace,
            default=default,
            overlay=NO_OVERLAY,
            by_namespace={namespace: tuple(group) for namespace, group in groups},
            warnings=warnings,
        )

    @classmethod
    def empty(cls, *, trust_domain: str, root_namespace: str) -> "PolicySet":
        """Return the set that holds before the first one is loaded: no policy, deny."""
        return cls.of((), trust_domain=trust_domain, root_namespace=root_namespace, default="deny")

    def under(self, overlay: Overlay["PolicySet"]) -> "PolicySet":
        """Return the set with `overlay` laid over it, instead of whatever lay there."""
        if overlay == self.overlay:
            return self
        own = self.version.partition("+")[0]
        said = "" if overlay == NO_OVERLAY else f"+{overlay.version}"
        return replace(self, overlay=overlay, version=f"{own}{said}", compiled={})

    def policies_for(self, workload: Workload) -> tuple[Policy, ...]:
        """Return the policies attached to `workload`: of its namespace and the root namespace."""
        namespaces = dict.fromkeys((self.root_namespace, workload.namespace))
        return tuple(
            policy
            for namespace in namespaces
            for policy in self.by_namespace.get(namespace, ())
            if policy.selects(workload)
        )

    def request_authentications_for(self, workload: Workload) -> tuple[RequestAuthentication, ...]:
        """Return the RequestAuthentications that apply to `workload`."""
        own, root = workload.namespace, self.root_namespace
        return tuple(
            each
            for each in self.request_authentications
            if (each.namespace == own or (each.namespace == root and not each.gateways))
            and workload.is_selected(each.selector, each.gateways)
        )


def digest_of(document: Policy | PeerAuthentication | RequestAuthentication) -> str:
    """Return a hash of what `document` means, the same for every way of writing it down."""
    if isinstance(document, Policy):
        return document.digest
    if isinstance(document, PeerAuthentication):
        meaning = _peer_meaning(document)
    else:
        meaning = _request_meaning(document)
    return hashlib.sha256(orjson.dumps(meaning)).hexdigest()[:32]


def _place(document: Policy | PeerAuthentication | RequestAuthentication) -> tuple[str, str]:
    return document.namespace, document.name


def _meaning(policy: Policy) -> list[Any]:
    """Return what `policy` means as plain values, the same for every way of writing it down."""
    rules = [
        [
            [[_term(term) for term in terms] for terms in alternatives]
            for alternatives in (rule.sources, rule.operations, (rule.conditions,))
        ]
        for rule in policy.rules
    ]
    return [
        *(policy.namespace, policy.name, policy.action, sorted(policy.selector), rules),
        *(sorted(policy.gateways), policy.provider, policy.stage, sorted(policy.canary)),
        *(policy.expires, policy.break_glass),
    ]


def _term(term: Term) -> list[Any]:
    return [term.field, term.attribute.name, term.values.written(), term.negative]


def _peer_meaning(document: PeerAuthentication) -> list[Any]:
    ports = sorted((port, str(mode)) for port, mode in document.ports.items())
    where = [document.namespace, document.name, sorted(document.selector)]
    return [*where, document.mode, ports, document.created]


def _request_meaning(document: RequestAuthentication) -> list[Any]:
    where = [document.namespace, document.name, sorted(document.selector)]
    return [*where, sorted(document.gateways), list(document.rules)]
