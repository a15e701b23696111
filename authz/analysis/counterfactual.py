"""What single change would have allowed a request that was denied.

Of the request: another value of one attribute. Of the policy: one more value in one field of one
rule, a rule less, or a policy more. Rules. Nothing is guessed: each change is made, the engine
decides again, and only what is then allowed is returned. That nothing is returned means that none
of the changes tried helps, not that none exists.

A change of the policy says what would do, not what should be done.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_network
from itertools import islice
from typing import Any, Final

from authz.analysis.proposals import with_value, witnesses
from authz.asked import parse_request
from authz.attributes import IDENTITY, TOKEN, Attribute
from authz.check import check
from authz.decision import Decision, Outcome
from authz.engine import compile_workload, decide
from authz.load import load_policies
from authz.overlay import Overlay
from authz.policy import Action, Policy, PolicySet, Rule, Term
from authz.request import Request
from authz.values import SEPARATOR, Networks, Paths, Strings, Values, parse_address
from authz.workload import Workload
from meshca.errors import InvalidDocument, RequestRefused

MAXIMUM_CHANGES: Final = 3
MAXIMUM_ATTEMPTS: Final = 400
_SUGGESTED = "allow-what-was-denied"


@dataclass(frozen=True, slots=True)
class Change:
    """One change; `of` is `request` or `policy`, `document` the YAML of a policy to add."""

    of: str
    text: str
    document: str = ""

    def as_json(self) -> dict[str, str | None]:
        """Return it as the command line prints it."""
        return {"of": self.of, "text": self.text, "document": self.document or None}


def would_allow(policies: PolicySet, request: Request) -> list[Change]:
    """Return single changes under which `request` would be allowed; none if it is."""
    decision = decide(policies, request)
    if decision.allowed or decision.outcome in (Outcome.ERROR, Outcome.CUSTOM):
        return []
    of_request = _distinct(_changed_requests(policies, request, decision))
    return [*of_request, *_distinct(_changed_policies(policies, request, decision))]


def explained_check(policies: PolicySet, asked: Any, *, now: float | None = None) -> dict[str, Any]:
    """Return the answer of `authz.check.check`, with `near_misses` and `would_allow`."""
    answer = check(policies, asked, now=now)
    try:
        request = parse_request(asked)
    except RequestRefused:
        return {**answer, "near_misses": [], "would_allow": []}
    if request.time is None:
        request = replace(request, time=now)
    misses = decide(policies, request).near_misses
    return {
        **answer,
        "near_misses": [
            {"policy": miss.rule.policy, "rule": miss.rule.index, "failed": list(miss.reasons)}
            for miss in misses
        ],
        "would_allow": [change.as_json() for change in would_allow(policies, request)],
    }


def _distinct(changes: Iterable[Change]) -> list[Change]:
    return list(islice(dict.fromkeys(changes), MAXIMUM_CHANGES))


def _changed_requests(
    policies: PolicySet, request: Request, decision: Decision
) -> Iterator[Change]:
    tried = 0
    for term in _terms_to_satisfy(policies, request, decision):
        for text in witnesses(term):
            other = with_value(request, term, text)
            tried += 1
            if tried > MAXIMUM_ATTEMPTS:
                return
            if other is not None and other != request and decide(policies, other).allowed:
                yield Change("request", f"with {_named(term)} {text.replace(SEPARATOR, '/')}")
                break


def _terms_to_satisfy(policies: PolicySet, request: Request, decision: Decision) -> Iterator[Term]:
    """Yield terms one of which a changed request may satisfy: of the nearest rules first."""
    for miss in decision.near_misses:
        if len(miss.failed) == 1:
            yield miss.failed[0]
    looked_at = None
    if decision.outcome is Outcome.RULE and decision.rule is not None:
        looked_at = {term.attribute for term in decision.rule.all_terms()}
    elif decision.outcome is Outcome.MALFORMED_PATH:
        looked_at = {Attribute.PATH}
    elif decision.outcome is Outcome.NOT_MUTUAL_TLS:
        looked_at = set(IDENTITY)
    if looked_at is not None:
        for rule in compile_workload(policies, request.destination).enforced.allow.rules:
            yield from (term for term in rule.all_terms() if term.attribute in looked_at)


def _named(term: Term) -> str:
    if term.attribute is Attribute.HEADER:
        return f"header {term.key[0]}:"
    if term.attribute is Attribute.CLAIM:
        return f"claim {'.'.join(term.key)}"
    return term.attribute.name.lower().replace("_", " ").replace("any ", "")


def _changed_policies(
    policies: PolicySet, request: Request, decision: Decision
) -> Iterator[Change]:
    in_force = compile_workload(policies, request.destination).enforced.policies
    if decision.outcome is Outcome.RULE and decision.rule is not None:
        rule = decision.rule
        if _allows(policies, _without(in_force, rule), request):
            yield Change("policy", f"without rule {rule.index} of DENY policy {rule.policy}")
        return
    if decision.outcome not in (Outcome.NO_ALLOW, Outcome.NO_ALLOW_ON_TCP, Outcome.DEFAULT):
        return
    for miss in decision.near_misses:
        if len(miss.failed) != 1:
            continue
        widened = _widened(miss.rule, miss.failed[0], decision)
        if widened is not None and _allows(policies, _with_rule(in_force, widened[0]), request):
            where = f"rule {miss.rule.index} of {miss.rule.policy}"
            yield Change("policy", f"{widened[1]} {miss.failed[0].field} of {where}")
    document = policy_document(request, _SUGGESTED)
    added = () if document is None else _loaded(document, policies)
    if document and added and _allows(policies, (*in_force, *added), request):
        yield Change("policy", "with an ALLOW policy like this one", document)


def _loaded(document: str, policies: PolicySet) -> tuple[Policy, ...]:
    """Return the policies in `document`; none where a value of the request cannot be written."""
    try:
        loaded = load_policies(
            [("suggested", document)],
            trust_domain=policies.trust_domain,
            root_namespace=policies.root_namespace,
            default=policies.default,
        )
    except InvalidDocument:
        return ()
    return loaded.policies


def _allows(policies: PolicySet, in_force: Iterable[Policy], request: Request) -> bool:
    """Return whether `in_force`, instead of what is in force for the destination, allows it."""
    trial = PolicySet.of(
        in_force,
        trust_domain=policies.trust_domain,
        aliases=policies.aliases,
        root_namespace=policies.root_namespace,
        default=policies.default,
        peer_authentications=policies.peer_authentications,
        request_authentications=policies.request_authentications,
    ).under(Overlay(approvals=policies.overlay.approvals))
    return decide(trial, request).allowed


def _without(in_force: Iterable[Policy], rule: Rule) -> list[Policy]:
    return [
        replace(policy, rules=tuple(each for each in policy.rules if each is not rule))
        if policy.full_name == rule.policy
        else policy
        for policy in in_force
    ]


def _with_rule(in_force: Iterable[Policy], rule: Rule) -> list[Policy]:
    return [
        replace(policy, rules=tuple(rule if r.index == rule.index else r for r in policy.rules))
        if policy.full_name == rule.policy
        else policy
        for policy in in_force
    ]


def _widened(rule: Rule, term: Term, decision: Decision) -> tuple[Rule, str] | None:
    """Return `rule` with `term` taking what the request has, and the words for it."""
    text = decision.facts[term.attribute]
    if isinstance(text, dict) and term.attribute is Attribute.HEADER:
        text = text.get(term.key[0])
    if not isinstance(text, str) or term.attribute in TOKEN:
        return None
    values = _without_text(term.values, text) if term.negative else _with_text(term.values, text)
    if values is None:
        return None
    wider = replace(term, values=values)

    def changed(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple(wider if each is term else each for each in terms)

    said = f"without {text} in" if term.negative else f"with {text} in"
    return replace(
        rule,
        sources=tuple(map(changed, rule.sources)),
        operations=tuple(map(changed, rule.operations)),
        conditions=changed(rule.conditions),
    ), said


def _with_text(values: Values, text: str) -> Values | None:
    if isinstance(values, Strings):
        return replace(values, exact=values.exact | {text})
    if isinstance(values, Paths):
        return replace(values, strings=replace(values.strings, exact=values.exact | {text}))
    if isinstance(values, Networks) and parse_address(text) is not None:
        return Networks((*values.networks, ip_network(text)))
    return None


def _without_text(values: Values, text: str) -> Values | None:
    if isinstance(values, Strings) and text in values.exact:
        return replace(values, exact=values.exact - {text})
    if isinstance(values, Paths) and text in values.exact:
        return replace(values, strings=replace(values.strings, exact=values.exact - {text}))
    return None


def policy_document(request: Request, name: str) -> str | None:
    """Return the YAML of an ALLOW policy for just this request; None for a peer without ID."""
    if request.source is None:
        return None
    operation: dict[str, Any] = {}
    if request.port is not None:
        operation["ports"] = [str(request.port)]
    if request.http is not None and request.http.method is not None:
        operation["methods"] = [request.http.method]
    if request.http is not None and request.http.path is not None:
        operation["paths"] = [request.http.path.partition("?")[0]]
    principal = request.source.trust_domain + request.source.path
    rule: dict[str, Any] = {"from": [{"source": {"principals": [principal]}}]}
    if operation:
        rule["to"] = [{"operation": operation}]
    return allow_document(request.destination, name, [rule])


def allow_document(workload: Workload, name: str, rules: list[dict[str, Any]]) -> str:
    """Return the YAML of an ALLOW policy with these `rules` for `workload`."""
    lines = [
        "apiVersion: security.istio.io/v1",
        "kind: AuthorizationPolicy",
        f"metadata: {{name: {json.dumps(name)}, namespace: {json.dumps(workload.namespace)}}}",
        "spec:",
    ]
    if workload.labels:
        lines.append(f"  selector: {{matchLabels: {json.dumps(dict(sorted(workload.labels)))}}}")
    lines += [f"  action: {Action.ALLOW}", "  rules:"]
    lines += [f"  - {json.dumps(rule)}" for rule in rules]
    return "\n".join(lines) + "\n"
