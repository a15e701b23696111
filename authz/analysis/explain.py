"""The effective policy of one workload, in plain words and in the order of the decision.

It says what decides about the workload's requests and why each policy is attached, what is on
trial, what is assumed of what the proxy sees, and where that is not what Istio would do. It says
nothing that the compiled policies (`authz.engine`) do not hold.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from authz.attributes import IDENTITY, TOKEN, Attribute
from authz.engine import Layer, WorkloadPolicies, compile_workload
from authz.peer_authentication import Mode, Modes
from authz.policy import Action, Conjunction, Policy, PolicySet, Rule, Stage, Term
from authz.workload import Workload

_SHOWN_VALUES: Final = 10
_NOUNS: Final = {
    Attribute.PRINCIPAL: "the peer",
    Attribute.NAMESPACE: "the peer's namespace",
    Attribute.ANY_NAMESPACE: "the peer's namespace (of any trust domain)",
    Attribute.SERVICE_ACCOUNT: "the peer's service account",
    Attribute.ANY_SERVICE_ACCOUNT: "the peer's service account (of any trust domain)",
    Attribute.TRUST_DOMAIN: "the peer's trust domain",
    Attribute.SOURCE_IP: "the connection's source address",
    Attribute.REMOTE_IP: "the caller's address as proxies name it",
    Attribute.DESTINATION_IP: "the destination address",
    Attribute.SNI: "the server name (SNI)",
    Attribute.REQUEST_PRINCIPAL: "the token's issuer/subject",
    Attribute.AUDIENCES: "an audience of the token",
    Attribute.PRESENTER: "the token's presenter (azp)",
}
_VERBS: Final = {
    Action.CUSTOM: "asks provider {provider}, which has to allow it,",
    Action.DENY: "denies",
    Action.ALLOW: "allows",
    Action.AUDIT: "marks (changing nothing)",
}
_MODES: Final = {
    Mode.STRICT: "only connections with mutual TLS are accepted",
    Mode.PERMISSIVE: "connections without mutual TLS are accepted where the proxy's bootstrap was "
    "written with --permissive; otherwise they are not",
    Mode.DISABLE: "as PERMISSIVE here: mutual TLS is never turned off",
    Mode.UNSET: "as PERMISSIVE",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `explain` says; `as_json` is what commands print."""

    compiled: WorkloadPolicies
    attached: tuple[Policy, ...]
    approvals: frozenset[str]
    now: float

    def as_json(self) -> dict[str, Any]:
        """Return it as the command line prints it."""
        layer, shadow = self.compiled.enforced, self.compiled.shadow
        in_force = frozenset(policy.digest for policy in layer.policies)
        return {
            "namespace": self.compiled.workload.namespace,
            "labels": dict(sorted(self.compiled.workload.labels)),
            "version": layer.version,
            "mutual_tls": _modes_json(layer.modes),
            "policies": [self._policy_json(policy, in_force) for policy in self.attached],
            "steps": [*self._bypasses(), *_steps(layer, self.now)],
            "on_trial": [] if shadow is None else list(_steps(shadow, self.now)),
            "assumed": list(_said(_ASSUMED, layer)),
            "unlike_istio": list(_said(_UNLIKE_ISTIO, layer)),
        }

    def _bypasses(self) -> Iterator[str]:
        for bypass in self.compiled.bypasses:
            if self.now < bypass.expires:
                yield f"emergency bypass {bypass.name} allows everything{_until(bypass.expires)}"

    def _policy_json(self, policy: Policy, in_force: frozenset[str]) -> dict[str, Any]:
        return {
            "policy": policy.full_name,
            "action": policy.action,
            "attached_because": _why_attached(policy),
            "state": self._state(policy, in_force),
            "source": policy.source,
            "line": policy.line,
        }

    def _state(self, policy: Policy, in_force: frozenset[str]) -> str:
        if policy.break_glass and policy.digest not in self.approvals:
            return "waits for a second person's approval (break-glass)"
        if policy.expires is not None and self.now >= policy.expires:
            return f"has ended at {_time(policy.expires)}"
        if policy.digest not in in_force:
            return "draft" if policy.stage is Stage.DRAFT else "on trial (shadow)"
        until = "" if policy.expires is None else _until(policy.expires)
        return f"in force{until}"


def explain(policies: PolicySet, workload: Workload, *, now: float) -> Explanation:
    """Return what applies to `workload` at `now`, in seconds since the epoch."""
    compiled = compile_workload(policies, workload)
    candidate = policies.overlay.candidate
    found = [*policies.policies_for(workload)]
    found += () if candidate is None else candidate.policies_for(workload)
    attached = tuple({policy.full_name + policy.digest: policy for policy in found}.values())
    return Explanation(compiled, attached, policies.overlay.approvals, now)


def _steps(layer: Layer, now: float) -> Iterator[str]:
    """Yield what decides, in the order of the decision."""
    for index in (layer.audit, layer.custom, layer.deny):
        yield from (rule_in_words(rule, now) for rule in index.rules)
    if not layer.has_allow:
        verb = "allowed" if layer.default == "allow" else "denied"
        yield f"everything else is {verb}: no ALLOW policy is attached, and that is the default"
        return
    yield from (rule_in_words(rule, now) for rule in layer.allow.rules)
    yield "everything else is denied: no ALLOW rule holds for it"


def rule_in_words(rule: Rule, now: float) -> str:
    """Return one sentence on `rule`."""
    verb = _VERBS[rule.action].format(provider=rule.provider)
    where = f"{rule.policy} rule {rule.index}"
    if rule.expires is not None and now >= rule.expires:
        return f"{where} has ended at {_time(rule.expires)}"
    until = "" if rule.expires is None else _until(rule.expires)
    parts = [_alternatives(rule.sources), _alternatives(rule.operations)]
    parts += [term_in_words(term) for term in rule.conditions]
    said = " and ".join(part for part in parts if part)
    if not said:
        return f"{where} {verb} every request{until}"
    http = ", over HTTP only," if rule.action is Action.ALLOW and rule.http_only else ""
    return f"{where} {verb} requests{http} where {said}{until}"


def _alternatives(alternatives: tuple[Conjunction, ...]) -> str:
    said = [" and ".join(map(term_in_words, terms)) for terms in alternatives]
    return said[0] if len(said) == 1 else " or ".join(f"({each})" for each in said)


def term_in_words(term: Term) -> str:
    """Return `term` as a clause: `the method is GET or HEAD`."""
    noun = _NOUNS.get(term.attribute, f"the {term.attribute.name.lower()}")
    if term.attribute is Attribute.HEADER:
        noun = f"header {term.key[0]}"
    elif term.attribute is Attribute.CLAIM:
        noun = f"claim {'.'.join(term.key)} of the token"
    values = term.values.written()
    if values == ["*"]:
        return f"{noun} is {'not ' if term.negative else ''}there"
    shown = values[:_SHOWN_VALUES]
    more = [f"{len(values) - len(shown)} more"] if len(values) > len(shown) else []
    verb = "is none of" if term.negative and len(values) > 1 else "is"
    verb = "is not" if term.negative and len(values) == 1 else verb
    return f"{noun} {verb} {' or '.join([*shown, *more])}"


def _why_attached(policy: Policy) -> str:
    labels = ", ".join(f"{key}={value}" for key, value in sorted(policy.selector))
    whom = f"workloads with {labels}" if labels else "every workload"
    if policy.gateways:
        whom += f" that implement gateway {' or '.join(sorted(policy.gateways))}"
    return f"it is in {policy.namespace} and selects {whom}"


def _modes_json(modes: Modes) -> dict[str, Any]:
    return {
        "mode": modes.default,
        "means": _MODES[modes.default],
        "ports": {str(port): str(mode) for port, mode in sorted(modes.ports.items())},
    }


def _until(expires: float) -> str:
    return f", until {_time(expires)}"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


_Holds = Callable[[Rule, Term], bool]


def _said(sentences: Iterable[tuple[str, _Holds]], layer: Layer) -> Iterator[str]:
    """Yield the sentences that concern a term of a rule of `layer`."""
    rules = [rule for policy in layer.policies for rule in policy.rules]
    terms = [(rule, term) for rule in rules for term in rule.all_terms()]
    for sentence, holds in sentences:
        if any(holds(rule, term) for rule, term in terms):
            yield sentence


def _on(*attributes: Attribute) -> _Holds:
    return lambda _, term: term.attribute in attributes


_ASSUMED: Final[tuple[tuple[str, _Holds], ...]] = (
    (
        "paths are as the proxy normalises them: without the query, dot segments resolved, double "
        "slashes merged, escaped slashes and unreserved characters decoded; case, a trailing "
        "slash and ;parameters matter",
        _on(Attribute.PATH),
    ),
    ("hosts are compared in lower case without a final dot; the port counts", _on(Attribute.HOST)),
    ("several lines of one header are one value, joined by commas", _on(Attribute.HEADER)),
    (
        "the caller's address is what proxies in front say; anybody can write it where there "
        "are none",
        _on(Attribute.REMOTE_IP),
    ),
    (
        "a token counts once the proxy has validated it by a RequestAuthentication; "
        "without one a request has no token",
        lambda _, term: term.attribute in TOKEN,
    ),
    (
        "a DENY of what only HTTP has denies TCP connections that its other fields match",
        lambda rule, _: rule.action is Action.DENY and rule.http_only,
    ),
)

_UNLIKE_ISTIO: Final[tuple[tuple[str, _Holds], ...]] = (
    (
        "a peer without an identity (plaintext) does not satisfy a negative identity field of an "
        "ALLOW rule; in Istio it does",
        lambda rule, term: (
            rule.action is Action.ALLOW and term.negative and term.attribute in IDENTITY
        ),
    ),
    (
        "namespaces and service accounts are those of peers of our own trust domain; in Istio, of "
        "any",
        _on(Attribute.NAMESPACE, Attribute.SERVICE_ACCOUNT),
    ),
    (
        "a service account is that of an identity /ns/NAMESPACE/sa/ACCOUNT and no longer one; "
        "Istio takes further segments",
        _on(Attribute.SERVICE_ACCOUNT, Attribute.ANY_SERVICE_ACCOUNT),
    ),
    (
        "several lines of one header are joined before they are compared; Istio's proxies compare "
        "each line",
        _on(Attribute.HEADER),
    ),
)
