"""The decision: may this request pass, and which rule says so.

Order, for the policies attached to the destination: a DENY rule that holds denies; with no ALLOW
policy attached the set's default decides; an ALLOW rule that holds allows; everything else is
denied. Pure: no I/O, no clock; the same set and request always give the same decision. An error
denies. `authz.compile` makes proxies give the same answers.

Rules are indexed for each destination workload by the exact principals, else the exact
namespaces, that their sources name, so that a decision looks at the few rules that could hold.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from authz.decision import Decision, Outcome
from authz.policy import (
    Action,
    Attribute,
    Conjunction,
    Default,
    Facts,
    Policy,
    PolicySet,
    Rule,
    Term,
    Workload,
)
from authz.request import Request, facts_of, is_malformed_path

MAXIMUM_COMPILED = 20_000
"""Workloads remembered by one set; when labels vary more than that, the memory starts again."""


@dataclass(frozen=True, slots=True)
class RuleIndex:
    """The rules of one action in their order, and found by what their sources name exactly."""

    rules: tuple[Rule, ...]
    by_principal: Mapping[str, list[Rule]]
    by_namespace: Mapping[str, list[Rule]]
    general: list[Rule]

    @classmethod
    def of(cls, rules: Iterable[Rule]) -> "RuleIndex":
        """Return the index of `rules`."""
        index = cls(tuple(rules), defaultdict(list), defaultdict(list), [])
        for rule in index.rules:
            principals, namespaces = _names(rule)
            for principal in principals:
                index.by_principal[principal].append(rule)
            for namespace in namespaces:
                index.by_namespace[namespace].append(rule)
            if not principals and not namespaces:
                index.general.append(rule)
        return index

    def find(self, facts: Facts, *, on_tcp: bool) -> Rule | None:
        """Return a rule that holds; `on_tcp` leaves out rules that look at what only HTTP has."""
        principal, namespace = facts[0], facts[1]
        for rules in (
            self.by_principal.get(principal, ()) if principal is not None else (),
            self.by_namespace.get(namespace, ()) if namespace is not None else (),
            self.general,
        ):
            for rule in rules:
                if rule.holds(facts) and not (on_tcp and rule.http_only):
                    return rule
        return None


def _names(rule: Rule) -> tuple[set[str], set[str]]:
    """Return principals and namespaces of which a peer has one whenever a source of `rule` holds.

    Both are empty when other peers, too, may satisfy the rule.
    """
    names: dict[Attribute, set[str]] = {Attribute.PRINCIPAL: set(), Attribute.NAMESPACE: set()}
    for source in rule.sources:
        term = _exact_identity(source)
        if term is None:
            return set(), set()
        names[term.attribute] |= term.values.exact
    return names[Attribute.PRINCIPAL], names[Attribute.NAMESPACE]


def _exact_identity(source: Conjunction) -> Term | None:
    for attribute in (Attribute.PRINCIPAL, Attribute.NAMESPACE):
        for term in source:
            if term.attribute is attribute and not term.negative and term.values.is_exact:
                return term
    return None


@dataclass(frozen=True, slots=True)
class WorkloadPolicies:
    """What applies to one destination workload; build it with `compile_workload`.

    `has_allow` says whether an ALLOW policy is attached, be it one without rules.
    """

    workload: Workload
    trust_domain: str
    default: Default
    policies: tuple[Policy, ...]
    deny: RuleIndex
    allow: RuleIndex
    has_allow: bool


def compile_workload(policies: PolicySet, workload: Workload) -> WorkloadPolicies:
    """Return what applies to `workload`; the set remembers the answer."""
    compiled: WorkloadPolicies | None = policies.compiled.get(workload)
    if compiled is None:
        if len(policies.compiled) >= MAXIMUM_COMPILED:
            policies.compiled.clear()
        compiled = policies.compiled[workload] = _compile(policies, workload)
    return compiled


def _compile(policies: PolicySet, workload: Workload) -> WorkloadPolicies:
    attached = policies.policies_for(workload)
    by_action: dict[Action, list[Policy]] = {action: [] for action in Action}
    for policy in attached:
        by_action[policy.action].append(policy)
    return WorkloadPolicies(
        workload=workload,
        trust_domain=policies.trust_domain,
        default=policies.default,
        policies=attached,
        deny=RuleIndex.of(rule for policy in by_action[Action.DENY] for rule in policy.rules),
        allow=RuleIndex.of(rule for policy in by_action[Action.ALLOW] for rule in policy.rules),
        has_allow=bool(by_action[Action.ALLOW]),
    )


def decide(policies: PolicySet, request: Request) -> Decision:
    """Return the decision of `policies` about `request`; it never raises: an error denies."""
    try:
        return _decide(compile_workload(policies, request.destination), request)
    except Exception as error:  # noqa: BLE001  # whatever could not be decided is denied
        return Decision(False, Outcome.ERROR, None, (type(error).__name__,))


def _decide(policies: WorkloadPolicies, request: Request) -> Decision:
    facts = facts_of(request, policies.trust_domain)
    path = facts[Attribute.PATH]
    if path is not None and is_malformed_path(path):
        return Decision(False, Outcome.MALFORMED_PATH, None, facts)
    rule = policies.deny.find(facts, on_tcp=False)
    if rule is not None:
        return Decision(False, Outcome.RULE, rule, facts)
    if not policies.has_allow:
        return Decision(policies.default == "allow", Outcome.DEFAULT, None, facts)
    rule = policies.allow.find(facts, on_tcp=request.http is None)
    if rule is not None:
        return Decision(True, Outcome.RULE, rule, facts)
    outcome = Outcome.NO_ALLOW if request.http is not None else Outcome.NO_ALLOW_ON_TCP
    return Decision(False, outcome, None, facts, policies.allow.rules)
