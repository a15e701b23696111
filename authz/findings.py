"""Findings: where a policy that loads does less, or more, than its author may think.

A finding never changes what a policy means and never refuses it. This runs at every load, over
every policy, so it looks at no pair of policies (`authz.analysis` does), and what may be said of a
policy is remembered with it: asked again is only whether its surroundings are such. What is seen in
single values (foreign trust domains, regular expressions) is noted where they are read.

Whether plaintext is possible at all is decided by the proxies' bootstrap; what a PERMISSIVE port
lets through is said only in sets that speak of modes (PeerAuthentication) at all.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from authz.attributes import HTTP_ONLY, IDENTITY, TOKEN, Attribute
from authz.peer_authentication import Mode, PeerAuthentication, effective_modes
from authz.policy import Action, Policy, PolicySet, Rule, Term
from authz.workload import Workload
from meshca.errors import Problem

_OPEN_MODES = frozenset({Mode.PERMISSIVE, Mode.DISABLE})
_WATCHED = HTTP_ONLY | IDENTITY


def find_warnings(policies: PolicySet) -> Iterator[Problem]:
    """Yield a problem for each rule whose effect is easily misread."""
    surroundings = _Surroundings(policies)
    for policy in policies.policies:
        for index, message, where in _warnings_of(policy):
            if where is None or where(surroundings, policy):
                path = f"spec.rules[{index}]"
                yield Problem(path, f"{policy.full_name}: {message}", policy.source, policy.line)


_Where = Callable[["_Surroundings", Policy], bool]
_Warning = tuple[int, str, _Where | None]
"""The index of a rule, what is said of it, and in which surroundings: None is in all."""


def _warnings_of(policy: Policy) -> tuple[_Warning, ...]:
    """Return what may be said of `policy`, which it remembers."""
    known: tuple[_Warning, ...] | None = policy.made.get("warnings")
    if known is None:
        found = ((rule.index, *said) for rule in policy.rules for said in _rule_warnings(rule))
        known = policy.made["warnings"] = tuple(found)
    return known


def _rule_warnings(rule: Rule) -> Iterator[tuple[str, _Where | None]]:
    terms = [term for term in rule.all_terms() if term.attribute in _WATCHED]
    always: list[str] = []
    if terms and rule.action is Action.DENY:
        always += _deny_warnings(rule, terms)
    always += _header_warnings(terms)
    yield from ((message, None) for message in always)
    if any(term.attribute in IDENTITY for term in terms):
        yield from ((message, _Surroundings.takes_plaintext) for message in _plaintext(rule))
    if tokens := [term.field for term in terms if term.attribute in TOKEN]:
        message = (
            f"{min(tokens)} looks at a token, but no RequestAuthentication can select these "
            "workloads, so that no token is ever valid"
        )
        yield message, _Surroundings.lacks_tokens
    yield from ((message, None) for message in _tcp_warnings(rule))


def _tcp_warnings(rule: Rule) -> Iterator[str]:
    if rule.action is Action.CUSTOM and not _names_ports(rule):
        yield (
            "no provider is asked about TCP connections: they are denied wherever this rule may "
            "hold; name the ports of HTTP"
        )
    if rule.action is Action.ALLOW and rule.expires is not None and not rule.http_only:
        yield "proxies have no clock for TCP connections: this rule, which ends, allows none"


def _deny_warnings(rule: Rule, terms: list[Term]) -> Iterator[str]:
    if rule.http_only and not _names_ports(rule):
        yield (
            "on TCP connections methods, paths, hosts, headers and tokens do not exist, and this "
            "DENY rule denies whatever its other fields match; name the ports of HTTP"
        )
    if path := _least_exact(terms, Attribute.PATH):
        yield (
            f"denies exactly {path}, not {path}/, {path};x or another case of its letters; "
            "ALLOW what is wanted instead, or deny the prefix"
        )
    if host := _least_exact(terms, Attribute.HOST):
        yield f"denies exactly the host {host}, not {host} with a port; add {host}:*"


def _names_ports(rule: Rule) -> bool:
    """Return whether the rule holds at ports that it names only."""

    def names(terms: Iterable[Term]) -> bool:
        return any(term.attribute is Attribute.PORT and not term.negative for term in terms)

    named = bool(rule.operations) and all(names(terms) for terms in rule.operations)
    return named or names(rule.conditions)


def _header_warnings(terms: list[Term]) -> Iterator[str]:
    for term in terms:
        if term.attribute is Attribute.HEADER and term.values.exact:
            value = min(term.values.exact)
            yield (
                f"{term.field} is compared as a whole, several lines joined by commas: a caller "
                f"who sends two of them does not send exactly {value!r}"
            )


def _plaintext(rule: Rule) -> Iterator[str]:
    """Say what plaintext, which fails every identity term but the negative ones of a DENY, does."""
    denies = rule.action is Action.DENY
    needed = _needed_identity(rule, negatives=not denies)
    if needed is None:
        return
    if denies:
        yield (
            f"plaintext evades this DENY: a caller without an identity is none of its "
            f"{needed.field}, and a PeerAuthentication leaves ports here open to plaintext; "
            "make them STRICT, or ALLOW what is wanted instead"
        )
    elif rule.action is Action.ALLOW:
        yield (
            f"a caller in plaintext never satisfies {needed.field}, and a PeerAuthentication "
            "leaves ports here open to plaintext"
        )


def _needed_identity(rule: Rule, *, negatives: bool) -> Term | None:
    """Return a term on identity without which `rule` never holds; None if it can."""

    def first(terms: Iterable[Term]) -> Term | None:
        looked = (term for term in terms if term.attribute in IDENTITY)
        return next((term for term in looked if negatives or not term.negative), None)

    needed = [first(source) for source in rule.sources]
    if needed and None not in needed:
        return needed[0]
    return first(rule.conditions)


def _least_exact(terms: Iterable[Term], attribute: Attribute) -> str:
    """Return one of the texts that a positive term names exactly; of hosts one without a port."""
    named = {
        text
        for term in terms
        if term.attribute is attribute and not term.negative
        for text in term.values.exact
    }
    if attribute is Attribute.HOST:
        prefixes = tuple(
            prefix
            for term in terms
            if term.attribute is attribute
            for prefix in getattr(term.values, "prefixes", ())
        )
        named = {h for h in named if ":" not in h and not f"{h}:".startswith(prefixes)}
    return min(named, default="")


@dataclass(slots=True)
class _Surroundings:
    """What other documents of the set say of the workloads that a policy selects."""

    policies: PolicySet
    _plaintext: dict[str, bool] = field(default_factory=dict)

    def takes_plaintext(self, policy: Policy) -> bool:
        """Return whether documents let plaintext reach a workload that `policy` may select."""
        known = self._plaintext.get(policy.namespace)
        if known is None:
            known = self._plaintext[policy.namespace] = self._is_open(policy.namespace)
        return known

    def _is_open(self, namespace: str) -> bool:
        documents = self.policies.peer_authentications
        root = self.policies.root_namespace
        if not documents:
            return False
        if effective_modes(documents, Workload(namespace), root).default is not Mode.STRICT:
            return True
        return any(
            _opens(document) for document in documents if namespace in (root, document.namespace)
        )

    def lacks_tokens(self, policy: Policy) -> bool:
        """Return whether no RequestAuthentication may select a workload that `policy` selects."""
        root = self.policies.root_namespace
        return not any(
            (each.namespace in (root, policy.namespace) or policy.namespace == root)
            and _are_compatible(each.selector, policy.selector)
            for each in self.policies.request_authentications
        )


def _opens(document: PeerAuthentication) -> bool:
    return document.mode in _OPEN_MODES or bool(_OPEN_MODES & set(document.ports.values()))


def _are_compatible(one: frozenset[tuple[str, str]], other: frozenset[tuple[str, str]]) -> bool:
    """Return whether a workload could have all labels of both."""
    labels = dict(one)
    return all(labels.get(key, value) == value for key, value in other)
