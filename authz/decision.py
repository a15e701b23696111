"""A decision, and its reason in words.

The reason is for operators and the audit record, never for the caller. It is worked out only when
asked for: for a request that no ALLOW rule let pass it looks at the rules and names the nearest
one, the rule with the fewest failing conditions, with its first condition that failed.
"""

import heapq
import itertools
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from authz.attributes import IDENTITY, TOKEN, Attribute, Facts, texts_of
from authz.policy import Conjunction, Rule, Term
from authz.values import SEPARATOR
from meshca.logs import clip

MAXIMUM_NEAR_MISSES = 5
MAXIMUM_LOOKED_AT = 2_000
"""Rules among which the nearest is looked for: wording a denial must not cost what a load does."""

_OVER = "it has expired, or when the request was made is not known"
_SHOWN_TEXT = 120
_SHOWN_VALUES = 3


class Outcome(StrEnum):
    """Which step of the order decided."""

    RULE = "rule"
    DEFAULT = "default"
    NO_ALLOW = "no_allow"
    NO_ALLOW_ON_TCP = "no_allow_on_tcp"
    MALFORMED_PATH = "malformed_path"
    NOT_MUTUAL_TLS = "not_mutual_tls"
    CUSTOM = "custom"
    BYPASS = "bypass"
    ERROR = "error"


class NearMiss(NamedTuple):
    """An ALLOW rule that does not hold: the terms that fail, and for each (or instead) why.

    Of several sources or operations the one that comes nearest counts. There are no terms where
    no term is to blame: TCP, an expired rule.
    """

    rule: Rule
    failed: tuple[Term, ...]
    reasons: tuple[str, ...]


class Decision(NamedTuple):
    """Whether a request may pass; `rule` is the one that decided, None where no rule did.

    `facts`, `candidates` (the ALLOW rules that did not hold) and `detail` are what the reason is
    made of. `audited` are the AUDIT rules that hold. `shadow` is the decision if everything on
    trial were in force; None where nothing is.
    """

    allowed: bool
    outcome: Outcome
    rule: Rule | None
    facts: Facts
    candidates: Sequence[Rule] = ()
    audited: tuple[Rule, ...] = ()
    detail: str = ""
    shadow: "Decision | None" = None

    @property
    def policy(self) -> str:
        """Return `namespace/name` of the policy that decided, or nothing."""
        return "" if self.rule is None else self.rule.policy

    @property
    def reason(self) -> str:
        """Return one sentence on why; it may quote the request."""
        match self.outcome:
            case Outcome.RULE:
                return self._by_rule()
            case Outcome.DEFAULT:
                verdict = "allow" if self.allowed else "deny"
                return f"no ALLOW policy selects this workload; the default is {verdict}"
            case Outcome.NO_ALLOW:
                return _nearest(self._misses(1))
            case Outcome.NO_ALLOW_ON_TCP:
                return _nearest(self._misses(1))
            case Outcome.MALFORMED_PATH:
                return "the path is not absolute or has a #; proxies refuse it"
            case Outcome.NOT_MUTUAL_TLS:
                return "the connection has no mutual TLS, which this port requires (STRICT)"
            case Outcome.CUSTOM:
                assert self.rule is not None  # noqa: S101  # Outcome.CUSTOM carries its rule
                return f"{self.rule.name}: provider {self.rule.provider} {self.detail}"
            case Outcome.BYPASS:
                return f"emergency bypass {self.detail} is in force for this workload"
            case Outcome.ERROR:
                return f"the decision failed with {self.detail}; errors deny"

    @property
    def near_misses(self) -> list[NearMiss]:
        """Return the ALLOW rules that came nearest to holding, nearest first."""
        return self._misses(MAXIMUM_NEAR_MISSES)

    def _misses(self, at_most: int) -> list[NearMiss]:
        on_tcp = self.outcome is Outcome.NO_ALLOW_ON_TCP
        looked_at = itertools.islice(self.candidates, MAXIMUM_LOOKED_AT)
        failed = ((rule, _failing(rule, self.facts, on_tcp=on_tcp)) for rule in looked_at)
        nearest = heapq.nsmallest(at_most, failed, key=lambda pair: max(1, len(pair[1])))
        return [_near_miss(rule, terms, self.facts, on_tcp=on_tcp) for rule, terms in nearest]

    def _by_rule(self) -> str:
        assert self.rule is not None  # noqa: S101  # Outcome.RULE carries its rule
        if self.allowed:
            return f"allowed by {self.rule.name}"
        taken = _taken_to_hold(self.rule, self.facts)
        return f"denied by {self.rule.name}" + (f": {taken}" if taken else "")


def _taken_to_hold(rule: Rule, facts: Facts) -> str:
    """Return which condition of a DENY rule held only because the request lacks its attribute."""
    for alternatives in (rule.sources, rule.operations, (rule.conditions,)):
        for terms in alternatives:
            absent = [term for term in terms if facts[term.attribute] is None]
            if absent and all(term.holds(facts) for term in terms):
                return f"{absent[0].field} is taken to hold, {_lack(absent[0])}"
    return ""


def _nearest(misses: Sequence[NearMiss]) -> str:
    if not misses:
        return "the ALLOW policies of this workload have no rules, which allows nothing"
    nearest = misses[0]
    return f"no ALLOW rule holds; nearest is {nearest.rule.name}: {nearest.reasons[0]}"


def _near_miss(rule: Rule, failed: tuple[Term, ...], facts: Facts, *, on_tcp: bool) -> NearMiss:
    if on_tcp and rule.http_only:
        return NearMiss(rule, (), ("it looks at what only HTTP requests have",))
    return NearMiss(rule, failed, tuple(_explain(term, facts) for term in failed) or (_OVER,))


def _failing(rule: Rule, facts: Facts, *, on_tcp: bool) -> tuple[Term, ...]:
    if on_tcp and rule.http_only:
        return ()
    conditions = [term for term in rule.conditions if not term.holds(facts)]
    return (*_closest(rule.sources, facts), *_closest(rule.operations, facts), *conditions)


def _closest(alternatives: tuple[Conjunction, ...], facts: Facts) -> list[Term]:
    """Return the failing terms of the alternative with the fewest of them."""
    failing = ([term for term in terms if not term.holds(facts)] for terms in alternatives)
    return min(failing, key=len, default=[])


def _explain(term: Term, facts: Facts) -> str:
    value = facts[term.attribute]
    if value is None:
        return f"{term.field}: {_lack(term)}"
    texts = (value,) if isinstance(value, str) else texts_of(value, term.key)
    if not texts:
        return f"{term.field}: {_lack(term)}"
    verb = "is one of" if term.negative else "is none of"
    if term.attribute in TOKEN or term.attribute is Attribute.HEADER:  # it may be a secret
        return f"{term.field}: its value {verb} {_listed(term.values.written())}"
    said = clip(", ".join(texts).replace(SEPARATOR, "/"), _SHOWN_TEXT)
    return f"{term.field}: {said} {verb} {_listed(term.values.written())}"


def _lack(term: Term) -> str:
    match term.attribute:
        case Attribute.NAMESPACE | Attribute.SERVICE_ACCOUNT:
            what = "namespace" if term.attribute is Attribute.NAMESPACE else "service account"
            return f"the peer has no identity with a {what} of this trust domain"
        case attribute if attribute in IDENTITY:
            return "the peer has no identity"
        case attribute if attribute in TOKEN:
            return "the request has no valid token that says so"
        case attribute:
            return f"the request has no {attribute.name.lower().replace('_', ' ')}"


def _listed(values: list[str]) -> str:
    shown = ", ".join(values[:_SHOWN_VALUES])
    more = len(values) - _SHOWN_VALUES
    return f"{shown} and {more} more" if more > 0 else shown
