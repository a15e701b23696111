"""Recorded decisions, decided again under another set: what would newly be denied or allowed.

Records keep who did what to whom, but no headers, tokens or addresses (authz/records). A decision
that hangs on one of these is `unknown`: whatever value it had, both verdicts were possible. That
is worked out by three-valued logic over the rules, never guessed. What a rule looks at but a
record folded into `(other)`, or cut, is as unknown.

A request is decided as if it were made at `now`: rules that have ended are over. On TCP no time is
known and no provider is asked, as in the engine.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from authz.attributes import ADDRESSES, TOKEN, Attribute, Facts
from authz.engine import Layer, compile_workload, decide
from authz.peer_authentication import Mode
from authz.policy import Conjunction, PolicySet, Rule
from authz.records.decisions import Distinct
from authz.request import Request, facts_of, is_malformed_path

MAXIMUM_SHOWN: Final = 1_000
CUT: Final = "…"
"""How a record ends a text that was too long to keep."""

_NEVER_KEPT: Final = TOKEN | ADDRESSES | {Attribute.HEADER, Attribute.SNI}
_ADDRESSES_ONLY: Final = frozenset({*ADDRESSES, Attribute.SNI})
_Maybe = bool | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """One distinct decision under the other set; `allowed` is None when that is unknown."""

    decision: Distinct
    allowed: bool | None
    policy: str
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        operation = self.decision.operation
        said = {name: getattr(operation, name) for name in _OPERATION}
        return {
            **said,
            "labels": dict(self.decision.labels),
            "was": verdict(self.decision.allowed),
            "would": verdict(self.allowed),
            "policy": self.policy or None,
            "reason": self.reason,
            "count": self.decision.count,
            "first": _time(self.decision.first),
            "last": _time(self.decision.last),
        }


_OPERATION: Final = (
    *("source", "destination", "namespace", "protocol", "port", "method", "path", "host"),
)


def verdict(allowed: bool | None) -> str:
    """Return the word for it."""
    return "unknown" if allowed is None else "allow" if allowed else "deny"


@dataclass(slots=True)
class Summary:
    """What a replay found; lists hold the most frequent, `left_off` how many more there are."""

    distinct: int = 0
    requests: int = 0
    unchanged: int = 0
    found: dict[str, list[Replayed]] = field(
        default_factory=lambda: {"newly_denied": [], "newly_allowed": [], "unknown": []}
    )

    def add(self, replayed: Replayed) -> None:
        """Take one decision in."""
        self.distinct += 1
        self.requests += replayed.decision.count
        if replayed.allowed is None:
            self.found["unknown"].append(replayed)
        elif replayed.allowed is replayed.decision.allowed:
            self.unchanged += 1
        else:
            self.found["newly_allowed" if replayed.allowed else "newly_denied"].append(replayed)

    def as_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        answer: dict[str, Any] = {
            "distinct": self.distinct,
            "requests": self.requests,
            "unchanged": self.unchanged,
        }
        left_off: Counter[str] = Counter()
        for name, found in self.found.items():
            ordered = sorted(found, key=lambda each: -each.decision.count)
            answer[name] = [each.as_json() for each in ordered[:MAXIMUM_SHOWN]]
            left_off[name] = len(ordered[MAXIMUM_SHOWN:])
        return {**answer, "left_off": dict(left_off)}


def replay(decisions: Iterable[Distinct], draft: PolicySet, *, now: datetime) -> Summary:
    """Return what would be otherwise if `draft` had been in force."""
    summary = Summary()
    for replayed in replayed_under(decisions, draft, now=now):
        summary.add(replayed)
    return summary


def replayed_under(
    decisions: Iterable[Distinct], draft: PolicySet, *, now: datetime
) -> Iterator[Replayed]:
    """Yield each decision under `draft`."""
    for decision in decisions:
        yield _replayed(decision, draft, now.timestamp())


def _replayed(decision: Distinct, draft: PolicySet, now: float) -> Replayed:
    request = decision.request()
    if request.http is not None:  # a connection outlives its decision: no time is known of it
        request = replace(request, time=now)
    compiled = compile_workload(draft, request.destination)
    layer = compiled.enforced
    unknown = unknown_attributes(decision, request)
    if not layer.custom.rules and not _used(layer) & unknown:
        decided = decide(draft, request)
        return Replayed(decision, decided.allowed, decided.policy, decided.reason)
    facts = facts_of(request, compiled.trust_domains)
    if any(bypass.holds_for(request.destination, request.time) for bypass in compiled.bypasses):
        return Replayed(decision, True, "", "an emergency bypass is in force")
    allowed = possible(layer, request, facts, unknown)
    if allowed is not None:
        decided = decide(draft, request)
        if decided.allowed is allowed:
            return Replayed(decision, allowed, decided.policy, decided.reason)
        return Replayed(decision, allowed, "", "whatever the record does not keep")
    return Replayed(decision, None, "", f"depends on {_listed(layer, unknown)}")


def unknown_attributes(decision: Distinct, request: Request) -> frozenset[Attribute]:
    """Return what a record of `decision` does not say about the request."""
    if request.http is None:
        return _ADDRESSES_ONLY
    kept = {
        Attribute.METHOD: request.http.method,
        Attribute.PATH: request.http.path,
        Attribute.HOST: request.http.host,
    }
    lost = {key for key, text in kept.items() if text is None or text.endswith(CUT)}
    no_port = {Attribute.PORT} if request.port is None else set()
    return _NEVER_KEPT | lost | no_port


def _used(layer: Layer) -> frozenset[Attribute]:
    indexes = (layer.deny, layer.allow)
    rules = (rule for index in indexes for rule in index.rules)
    return frozenset(term.attribute for rule in rules for term in rule.all_terms())


def _listed(layer: Layer, unknown: frozenset[Attribute]) -> str:
    names = sorted(each.name.lower().replace("_", " ") for each in _used(layer) & unknown)
    custom = ["the answer of a CUSTOM provider"] if layer.custom.rules else []
    return ", ".join([*names, *custom]) + ": not in the record"


def possible(
    layer: Layer, request: Request, facts: Facts, unknown: frozenset[Attribute]
) -> bool | None:
    """Return the verdict that `layer` gives whatever the `unknown` are; None if both are."""
    path = facts[Attribute.PATH]
    if path is not None and Attribute.PATH not in unknown and is_malformed_path(path):
        return False
    if request.source is None and layer.modes.of(request.port) is Mode.STRICT:
        return False
    denied = _any(_rule(rule, facts, unknown, request.time) for rule in layer.deny.rules)
    if denied is True:
        return False
    asked = _any(_rule(rule, facts, unknown, request.time) for rule in layer.custom.rules)
    if asked is True and request.http is None:  # nobody is asked about a connection
        return False
    allowed: _Maybe = layer.default == "allow"
    if layer.has_allow:
        usable = [r for r in layer.allow.rules if request.http is not None or not r.http_only]
        allowed = _any(_rule(rule, facts, unknown, request.time) for rule in usable)
    if allowed is False:
        return False
    return True if allowed is True and denied is False and asked is False else None


def _rule(rule: Rule, facts: Facts, unknown: frozenset[Attribute], time: float | None) -> _Maybe:
    if rule.is_over(time):
        return False
    sources = _any(_conjunction(each, facts, unknown) for each in rule.sources or ((),))
    operations = _any(_conjunction(each, facts, unknown) for each in rule.operations or ((),))
    return _all((sources, operations, _conjunction(rule.conditions, facts, unknown)))


def _conjunction(terms: Conjunction, facts: Facts, unknown: frozenset[Attribute]) -> _Maybe:
    return _all(None if term.attribute in unknown else term.holds(facts) for term in terms)


def _any(values: Iterable[_Maybe]) -> _Maybe:
    """Return the OR of three-valued `values`."""
    maybe = False
    for value in values:
        if value is True:
            return True
        maybe = maybe or value is None
    return None if maybe else False


def _all(values: Iterable[_Maybe]) -> _Maybe:
    """Return the AND of three-valued `values`."""
    maybe = False
    for value in values:
        if value is False:
            return False
        maybe = maybe or value is None
    return None if maybe else True


def _time(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
