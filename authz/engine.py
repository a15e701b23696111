"""The decision: may this request pass, and which rule says so.

Order, for what is in force for the destination:

    1  an emergency bypass of the destination: allowed
    2  a path that no proxy of ours passes on: denied
    3  no mutual TLS on a port that is STRICT: denied
    4  a CUSTOM rule holds, and its provider does not allow the request: denied
    5  a DENY rule holds: denied
    6  no ALLOW policy is attached: the set's default
    7  an ALLOW rule holds: allowed
    8  everything else: denied

On TCP nobody is asked and no time is known: a connection outlives the moment of its decision. So
there CUSTOM denies, rules of ALLOW that expire do not hold, those of DENY do, and no bypass holds.

Whoever asks says what the providers have answered (`providers_for` names them); an answer that is
missing denies. AUDIT rules change nothing and are named. Where something is on trial for the
destination (a stage, a candidate set), the same request is decided once more as if it were in
force: the decision's `shadow`.

Pure: no I/O, no clock; the same set and request always give the same decision. An error denies.
`authz.compile` makes proxies give the same answers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from authz.attributes import Attribute, Facts
from authz.decision import Decision, Outcome
from authz.overlay import Bypass
from authz.peer_authentication import Mode, Modes, effective_modes
from authz.policy import Action, Default, Policy, PolicySet, Stage
from authz.request import Request, facts_of, is_malformed_path
from authz.request_authentication import RequestAuthentication
from authz.rule_index import RuleIndex
from authz.workload import Workload

MAXIMUM_COMPILED = 20_000
"""Workloads remembered by one set; when labels vary more than that, the memory starts again."""

NO_ANSWERS: Mapping[str, bool] = {}
_PATH: Final = int(Attribute.PATH)


@dataclass(frozen=True, slots=True)
class Layer:
    """Everything that decides together: what is in force, or what would be.

    `has_allow` says whether an ALLOW policy is attached, be it one without rules.
    """

    version: str
    default: Default
    policies: tuple[Policy, ...]
    custom: RuleIndex
    deny: RuleIndex
    allow: RuleIndex
    audit: RuleIndex
    has_allow: bool
    modes: Modes
    request_authentications: tuple[RequestAuthentication, ...]


@dataclass(frozen=True, slots=True)
class WorkloadPolicies:
    """What applies to one destination workload; build it with `compile_workload`.

    `shadow` is what would decide if everything on trial were in force; None if nothing is.
    `trust_domains` are the names of our own, the first one the one that we issue under.
    """

    workload: Workload
    trust_domains: tuple[str, ...]
    enforced: Layer
    shadow: Layer | None
    bypasses: tuple[Bypass, ...]

    @property
    def trust_domain(self) -> str:
        """Return the trust domain that we issue under."""
        return self.trust_domains[0]


def compile_workload(policies: PolicySet, workload: Workload) -> WorkloadPolicies:
    """Return what applies to `workload`; the set remembers the answer."""
    compiled: WorkloadPolicies | None = policies.compiled.get(workload)
    if compiled is None:
        if len(policies.compiled) >= MAXIMUM_COMPILED:
            policies.compiled.clear()
        compiled = policies.compiled[workload] = _compile(policies, workload)
    return compiled


def _compile(policies: PolicySet, workload: Workload) -> WorkloadPolicies:
    overlay = policies.overlay
    candidate = policies if overlay.candidate is None else overlay.candidate
    in_force = candidate if workload.namespace in overlay.canary else policies
    attached = in_force.policies_for(workload)
    proposed = attached if candidate is in_force else candidate.policies_for(workload)
    enforced = [policy for policy in attached if _is_in_force(policy, workload, policies)]
    trial = [policy for policy in proposed if _is_proposed(policy, policies)]
    same = candidate is in_force and trial == enforced
    return WorkloadPolicies(
        workload=workload,
        trust_domains=(policies.trust_domain, *policies.aliases),
        enforced=_layer(in_force, workload, enforced),
        shadow=None if same else _layer(candidate, workload, trial),
        bypasses=tuple(b for b in overlay.bypasses if b.holds_for(workload, 0.0)),
    )


def _is_in_force(policy: Policy, workload: Workload, policies: PolicySet) -> bool:
    return policy.is_enforced_for(workload) and _is_approved(policy, policies)


def _is_proposed(policy: Policy, policies: PolicySet) -> bool:
    return policy.stage is not Stage.DRAFT and _is_approved(policy, policies)


def _is_approved(policy: Policy, policies: PolicySet) -> bool:
    return not policy.break_glass or policy.digest in policies.overlay.approvals


def _layer(policies: PolicySet, workload: Workload, attached: Iterable[Policy]) -> Layer:
    by_action: dict[Action, list[Policy]] = {action: [] for action in Action}
    for policy in attached:
        by_action[policy.action].append(policy)
    index = {
        action: RuleIndex.of(rule for policy in chosen for rule in policy.rules)
        for action, chosen in by_action.items()
    }
    return Layer(
        version=policies.version,
        default=policies.default,
        policies=tuple(attached),
        custom=index[Action.CUSTOM],
        deny=index[Action.DENY],
        allow=index[Action.ALLOW],
        audit=index[Action.AUDIT],
        has_allow=bool(by_action[Action.ALLOW]),
        modes=effective_modes(policies.peer_authentications, workload, policies.root_namespace),
        request_authentications=policies.request_authentications_for(workload),
    )


def providers_for(
    policies: PolicySet, request: Request, *, on_trial: bool = True
) -> tuple[str, ...]:
    """Return the CUSTOM providers whose answer a decision about `request` needs, in order.

    `on_trial`: also those that only its `shadow` needs.
    """
    if request.http is None:
        return ()
    compiled = compile_workload(policies, request.destination)
    layers = [compiled.enforced]
    if on_trial and compiled.shadow is not None:
        layers.append(compiled.shadow)
    if not any(layer.custom.rules for layer in layers):
        return ()
    facts = facts_of(request, compiled.trust_domains)
    named = (
        rule.provider
        for layer in layers
        for rule in layer.custom.find_all(facts, time=request.time)
    )
    return tuple(dict.fromkeys(named))


def decide(
    policies: PolicySet, request: Request, *, answers: Mapping[str, bool] = NO_ANSWERS
) -> Decision:
    """Return the decision of `policies` about `request`; it never raises: an error denies.

    `answers` is what each CUSTOM provider has said of it.
    """
    try:
        compiled = compile_workload(policies, request.destination)
        facts = facts_of(request, compiled.trust_domains)
        time = request.time
        if request.http is None:
            time, answers = None, NO_ANSWERS
        if compiled.bypasses:
            for bypass in compiled.bypasses:
                if bypass.holds_for(request.destination, time):
                    return Decision(True, Outcome.BYPASS, None, facts, detail=bypass.name)
        decision = _decide(compiled.enforced, request, facts, time, answers)
        if compiled.shadow is None:
            return decision
        return decision._replace(shadow=_decide(compiled.shadow, request, facts, time, answers))
    except Exception as error:  # noqa: BLE001  # whatever could not be decided is denied
        return Decision(False, Outcome.ERROR, None, (), detail=type(error).__name__)


def _decide(
    layer: Layer,
    request: Request,
    facts: Facts,
    time: float | None,
    answers: Mapping[str, bool],
) -> Decision:
    audited = tuple(layer.audit.find_all(facts, time=time)) if layer.audit.rules else ()
    path = facts[_PATH]
    if path is not None and is_malformed_path(path):
        return Decision(False, Outcome.MALFORMED_PATH, None, facts, audited=audited)
    if request.source is None and layer.modes.of(request.port) is Mode.STRICT:
        return Decision(False, Outcome.NOT_MUTUAL_TLS, None, facts, audited=audited)
    for rule in layer.custom.find_all(facts, time=time) if layer.custom.rules else ():
        if answers.get(rule.provider) is not True:
            said = "denied" if rule.provider in answers else "has not answered"
            return Decision(False, Outcome.CUSTOM, rule, facts, audited=audited, detail=said)
    denies = layer.deny.find(facts, time=time)
    if denies is not None:
        return Decision(False, Outcome.RULE, denies, facts, audited=audited)
    if not layer.has_allow:
        return Decision(layer.default == "allow", Outcome.DEFAULT, None, facts, audited=audited)
    on_tcp = request.http is None
    allows = layer.allow.find(facts, time=time, on_tcp=on_tcp)
    if allows is not None:
        return Decision(True, Outcome.RULE, allows, facts, audited=audited)
    outcome = Outcome.NO_ALLOW_ON_TCP if on_tcp else Outcome.NO_ALLOW
    return Decision(False, outcome, None, facts, layer.allow.rules, audited=audited)
