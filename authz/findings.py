"""Findings: where a policy that loads does less, or more, than its author may think.

A finding never changes what a policy means and never refuses it.
"""

from collections.abc import Iterable, Iterator

from authz.attributes import Attribute
from authz.policy import Action, Policy, Rule, Term
from authz.values import Values
from meshca.errors import Problem


def find_warnings(policies: Iterable[Policy], trust_domain: str) -> Iterator[Problem]:
    """Yield a problem for each term whose effect is easily misread."""
    for policy in policies:
        for rule in policy.rules:
            for message in _rule_warnings(policy, rule, trust_domain):
                path = f"spec.rules[{rule.index}]"
                name = f"{policy.namespace}/{policy.name}"
                yield Problem(path, f"{name}: {message}", policy.source, policy.line)


def _rule_warnings(policy: Policy, rule: Rule, trust_domain: str) -> Iterator[str]:
    if policy.action is Action.DENY:
        if rule.http_only:
            yield (
                "on TCP connections methods and paths do not exist, and this DENY rule denies "
                "whatever its other fields match"
            )
        if spelled := _exact_paths(rule):
            path = min(spelled)
            yield (
                f"denies exactly {path}, not {path}/, {path};x or another case of its letters; "
                "ALLOW what is wanted instead, or deny the prefix"
            )
    if foreign := sorted(_foreign_trust_domains(rule, trust_domain)):
        yield f"names peers of {', '.join(foreign)}, which is not our trust domain {trust_domain}"


def _terms(rule: Rule, attribute: Attribute) -> Iterator[Term]:
    for terms in (*rule.sources, *rule.operations):
        yield from (term for term in terms if term.attribute is attribute)


def _exact_paths(rule: Rule) -> set[str]:
    terms = (term for term in _terms(rule, Attribute.PATH) if not term.negative)
    return {path for term in terms for path in term.values.exact}


def _foreign_trust_domains(rule: Rule, trust_domain: str) -> set[str]:
    named = {
        name for term in _terms(rule, Attribute.PRINCIPAL) for name in _trust_domains(term.values)
    }
    return named - {trust_domain}


def _trust_domains(values: Values) -> Iterator[str]:
    for text in (*values.exact, *getattr(values, "prefixes", ())):
        yield text.partition("/")[0]
