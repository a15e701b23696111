"""Findings: what in a whole set of policies does nothing, cancels out, or names nobody.

Run on demand, thorough; `authz.findings` warns at every load of what is seen in one document, and
its warnings are part of the answer. Rules. A finding claims only what is proved (from how rules
are written, `authz.analysis.subsumption`) or observed (`Known`: who exists). It changes nothing.

    shadowed            another rule of the same action holds whenever this one does
    under_deny          a DENY rule holds whenever this ALLOW rule does
    never_matches       no request satisfies it: its fields leave nothing, or it has ended
    unknown_principal   names an identity of ours that nobody has or had
    unknown_namespace   names, or lives in, a namespace where nobody is
    selects_nothing     selects no workload that is known
    without_policy      a workload that no policy in force selects
    warning             said when the policy was loaded
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from authz.analysis.subsumption import contradiction, rule_covers, selection_covers
from authz.attributes import Attribute
from authz.engine import compile_workload
from authz.peer_authentication import PeerAuthentication
from authz.policy import Action, Policy, PolicySet, Rule, Stage
from authz.reader import hint
from authz.request import peer_facts
from authz.request_authentication import RequestAuthentication
from authz.workload import Workload
from meshca.spiffe_id import SpiffeId

MAXIMUM_COMPARISONS: Final = 5_000_000
"""Pairs of rules that are compared; a set that needs more is told that the rest was not."""

_ANCHORS: Final = (Attribute.PRINCIPAL, Attribute.SERVICE_ACCOUNT, Attribute.NAMESPACE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; `rule` is None where it is about a policy, `policy` empty for a workload."""

    kind: str
    message: str
    policy: str = ""
    rule: int | None = None
    source: str = ""
    line: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        return {
            "kind": self.kind,
            "policy": self.policy or None,
            "rule": self.rule,
            "message": self.message,
            "source": self.source or None,
            "line": self.line or None,
        }


@dataclass(frozen=True, slots=True)
class Known:
    """Who exists: SPIFFE IDs that were issued or are given, and the workloads that are seen.

    None where that is not known: then nothing is said of it.
    """

    identities: frozenset[str] | None = None
    workloads: frozenset[Workload] | None = None


def find(policies: PolicySet, known: Known, *, now: float) -> list[Finding]:
    """Return every finding in `policies` at `now`, in seconds since the epoch."""
    domains = (policies.trust_domain, *policies.aliases)
    found = [
        *_warnings(policies),
        *_never_matching(policies, domains, now),
        *_shadowed(policies, domains, now),
        *_unknown_names(policies, known, domains),
        *_selecting_nothing(policies, known),
        *_without_policy(policies, known),
    ]
    return sorted(dict.fromkeys(found), key=lambda f: (f.source, f.line, f.policy, f.rule or 0))


def _of(policy: Policy, kind: str, message: str, rule: Rule | None = None) -> Finding:
    index = None if rule is None else rule.index
    return Finding(kind, message, policy.full_name, index, policy.source, policy.line)


def _warnings(policies: PolicySet) -> Iterator[Finding]:
    for problem in policies.warnings:
        path = f"{problem.path}: " if problem.path else ""
        message = f"{path}{problem.message}"
        yield Finding("warning", message, source=problem.file, line=problem.line)


def _never_matching(policies: PolicySet, domains: tuple[str, ...], now: float) -> Iterator[Finding]:
    for policy in policies.policies:
        for rule in policy.rules:
            if rule.expires is not None and now >= rule.expires:
                ended = datetime.fromtimestamp(rule.expires, UTC).isoformat()
                message = f"has ended at {ended.replace('+00:00', 'Z')}: remove it"
                yield _of(policy, "never_matches", message, rule)
            elif why := _why_never(rule, domains):
                yield _of(policy, "never_matches", f"can never hold: {why}", rule)
            else:
                yield from _dead_alternatives(policy, rule, domains)


def _why_never(rule: Rule, domains: tuple[str, ...]) -> str:
    for alternatives in (rule.sources, rule.operations, ((),)):
        reasons = [contradiction((*each, *rule.conditions), domains) for each in alternatives]
        if reasons and all(reasons):
            return reasons[0]
    return ""


def _dead_alternatives(policy: Policy, rule: Rule, domains: tuple[str, ...]) -> Iterator[Finding]:
    for name, alternatives in (("from", rule.sources), ("to", rule.operations)):
        for place, terms in enumerate(alternatives):
            why = contradiction((*terms, *rule.conditions), domains)
            if why:
                message = f"{name}[{place}] can never hold: {why}"
                yield _of(policy, "never_matches", message, rule)


@dataclass(slots=True)
class _Rules:
    """The rules of one action that are in force everywhere, found by whom they name."""

    by_name: dict[str, list[tuple[Policy, Rule]]] = field(default_factory=lambda: defaultdict(list))
    general: list[tuple[Policy, Rule]] = field(default_factory=list)

    def add(self, policy: Policy, rule: Rule) -> None:
        names = [_exact_names(source) for source in rule.sources]
        if not names or not all(names):
            self.general.append((policy, rule))
            return
        for name in {name for each in names for name in each}:
            self.by_name[name].append((policy, rule))

    def near(self, rule: Rule, domains: tuple[str, ...]) -> Iterator[tuple[Policy, Rule]]:
        """Yield every rule that may cover `rule`."""
        yield from self.general
        source = rule.sources[0] if rule.sources else ()
        for name in sorted(_implied_names(source, domains)):
            yield from self.by_name.get(name, ())


def _exact_names(source: Iterable[Any]) -> set[str]:
    for term in source:
        if term.attribute in _ANCHORS and not term.negative and term.values.is_exact:
            return set(term.values.exact)
    return set()


def _implied_names(source: Iterable[Any], domains: tuple[str, ...]) -> set[str]:
    names: set[str] = set()
    for term in source:
        if term.attribute not in _ANCHORS or term.negative:
            continue
        names |= term.values.exact
        if term.attribute is Attribute.PRINCIPAL:
            for text in term.values.exact:
                facts = peer_facts(SpiffeId.parse(f"spiffe://{text}"), domains)
                names |= {facts[each] for each in _ANCHORS if facts[each] is not None}
    return names


def _is_steady(policy: Policy) -> bool:
    """Return whether `policy` is in force for every workload that it selects."""
    return policy.stage is Stage.ENFORCE and not policy.break_glass


def _shadowed(policies: PolicySet, domains: tuple[str, ...], now: float) -> Iterator[Finding]:
    rules = {Action.DENY: _Rules(), Action.ALLOW: _Rules()}
    for policy in policies.policies:
        for rule in policy.rules:
            if policy.action in rules and _is_steady(policy) and not rule.is_over(now):
                rules[policy.action].add(policy, rule)
    left = MAXIMUM_COMPARISONS
    for policy in policies.policies:
        for rule in policy.rules:
            for action, kind in _COVERED_BY.get(policy.action, ()):
                for other, wide in rules[action].near(rule, domains):
                    left -= 1
                    if _covers(other, wide, policy, rule, policies):
                        message = _MESSAGES[kind].format(f"{other.full_name} rule {wide.index}")
                        yield _of(policy, kind, message, rule)
                        break
            if left < 0:
                yield _of(policy, "warning", "from here on rules were not compared: too many")
                return


_COVERED_BY: Final[Mapping[Action, tuple[tuple[Action, str], ...]]] = {
    Action.DENY: ((Action.DENY, "shadowed"),),
    Action.ALLOW: ((Action.DENY, "under_deny"), (Action.ALLOW, "shadowed")),
}
_MESSAGES: Final = {
    "shadowed": "does nothing: {} holds whenever it does",
    "under_deny": "allows nothing: DENY {} holds whenever it does",
}


def _covers(other: Policy, wide: Rule, policy: Policy, rule: Rule, policies: PolicySet) -> bool:
    if wide is rule or not selection_covers(other, policy, policies.root_namespace):
        return False
    domains = (policies.trust_domain, *policies.aliases)
    if not rule_covers(wide, rule, domains):
        return False
    if wide.action is not rule.action or wide.name < rule.name:
        return True
    # Of two that say the same only the later one is reported.
    alike = selection_covers(policy, other, policies.root_namespace)
    return not (alike and _is_steady(policy) and rule_covers(rule, wide, domains))


def _unknown_names(
    policies: PolicySet, known: Known, domains: tuple[str, ...]
) -> Iterator[Finding]:
    if known.identities is None:
        return
    principals = {each.removeprefix("spiffe://") for each in known.identities}
    facts = [peer_facts(SpiffeId.parse(f"spiffe://{each}"), domains) for each in principals]
    exist: dict[Attribute, set[str]] = {
        Attribute.PRINCIPAL: principals,
        Attribute.NAMESPACE: {f[Attribute.NAMESPACE] for f in facts} - {None},
        Attribute.SERVICE_ACCOUNT: {f[Attribute.SERVICE_ACCOUNT] for f in facts} - {None},
    }
    exist[Attribute.NAMESPACE] |= {each.namespace for each in known.workloads or ()}
    for policy in policies.policies:
        for rule in policy.rules:
            yield from _unknown_in(policy, rule, exist, domains)


def _unknown_in(
    policy: Policy, rule: Rule, exist: Mapping[Attribute, set[str]], domains: tuple[str, ...]
) -> Iterator[Finding]:
    for term in rule.all_terms():
        names = exist.get(term.attribute)
        if names is None:
            continue
        is_principal = term.attribute is not Attribute.NAMESPACE
        kind = "unknown_principal" if is_principal else "unknown_namespace"
        for text in sorted(term.values.exact - names):
            if _is_ours(text, term.attribute, domains) and not _is_alias_of_known(
                text, term.attribute, names, domains
            ):
                message = f"{term.field}: nobody has or had {text}{hint(text, names)}"
                yield _of(policy, kind, message, rule)


def _is_ours(text: str, attribute: Attribute, domains: tuple[str, ...]) -> bool:
    """Return whether we would know a peer of that name: others' identities we never issue."""
    return attribute is not Attribute.PRINCIPAL or text.partition("/")[0] in domains


def _is_alias_of_known(
    text: str, attribute: Attribute, names: set[str], domains: tuple[str, ...]
) -> bool:
    """Return whether the same identity exists under another name of our trust domain."""
    if attribute is not Attribute.PRINCIPAL:
        return False
    rest = text.partition("/")[2]
    return any(f"{domain}/{rest}" in names for domain in domains)


_Document = Policy | PeerAuthentication | RequestAuthentication


def _selecting_nothing(policies: PolicySet, known: Known) -> Iterator[Finding]:
    if known.workloads is None:
        return
    workloads = list(known.workloads)
    documents: tuple[_Document, ...] = (
        *policies.policies,
        *policies.peer_authentications,
        *policies.request_authentications,
    )
    for document in documents:
        gateways: frozenset[str] = getattr(document, "gateways", frozenset())
        everywhere = document.namespace == policies.root_namespace
        of_peers = isinstance(document, PeerAuthentication) and bool(document.selector)
        here = [w for w in workloads if w.namespace == document.namespace]
        reach = workloads if everywhere and not of_peers else here
        if any(workload.is_selected(document.selector, gateways) for workload in reach):
            continue
        where = "no workload is known there" if not reach else "no known workload has its labels"
        kind = "unknown_namespace" if not reach else "selects_nothing"
        name = f"{document.namespace}/{document.name}"
        what = "" if isinstance(document, Policy) else f"{type(document).__name__}: "
        message = f"{what}selects nothing: {where}"
        yield Finding(kind, message, name, None, document.source, document.line)


def _without_policy(policies: PolicySet, known: Known) -> Iterator[Finding]:
    workloads = sorted(known.workloads or (), key=lambda w: (w.namespace, sorted(w.labels)))
    for workload in workloads:
        if compile_workload(policies, workload).enforced.policies:
            continue
        labels = ",".join(f"{key}={value}" for key, value in sorted(workload.labels))
        default = "allowed" if policies.default == "allow" else "denied"
        message = f"no policy selects {workload.namespace} {labels}: everything is {default}"
        yield Finding("without_policy", message)
