"""What is written of a decision: which policy decided, why, and what is on trial beside it.

The proxy's word on the rule goes before the engine's: it is what happened. Names of filters that
are no policy (`revoked`, `default-deny`) are part of the reason.
"""

import re
from typing import Any, Final

import orjson

from authz.decision import Decision
from authz.records.observed import Observed
from authz.records.operation import Operation, clean
from authz.records.tables import ALLOW, DENY, FullRecord, Outcome

MAXIMUM_REASON: Final = 600
MAXIMUM_REQUEST_ID: Final = 128
_RULE: Final = re.compile(
    r"ns\[([a-z0-9-]{1,63})\]-policy\[([a-z0-9.-]{1,253})\]-rule\[([0-9]{1,6})\]"
)
_MAXIMUM_TEXT: Final = 256
_SHOWN_RULES: Final = 16


def outcome_of(observed: Observed) -> Outcome:
    """Return what was decided, by the rule that the proxy named, or else by the engine's."""
    named = parse_rule(observed.named)
    if named is not None:
        return Outcome(observed.allowed, *named)
    decision = observed.decision
    if decision.allowed is not observed.allowed or decision.rule is None:
        return Outcome(observed.allowed)
    return Outcome(observed.allowed, decision.rule.policy, decision.rule.index)


def parse_rule(name: str) -> tuple[str, int] | None:
    """Return `namespace/name` and number of the rule that `name` names; None if it is no rule."""
    match = _RULE.fullmatch(name) if name else None
    return None if match is None else (f"{match[1]}/{match[2]}", int(match[3]))


def in_full(observed: Observed) -> FullRecord:
    """Return the record of `observed`; words the reason, which looks at every near miss."""
    request = observed.request
    shadow = observed.decision.shadow if observed.shadow_differs else None
    return FullRecord(
        at=observed.at,
        operation=Operation.of(request, observed.destination, observed.asked_by),
        outcome=outcome_of(observed),
        door=observed.door,
        reason=clean(_reason(observed), MAXIMUM_REASON),
        sni=clean(request.sni or "", _MAXIMUM_TEXT),
        source_ip=clean(request.source_ip or "", _MAXIMUM_TEXT),
        remote_ip=clean(request.remote_ip or "", _MAXIMUM_TEXT),
        shadow="" if shadow is None else ALLOW if shadow.allowed else DENY,
        details=orjson.dumps(_details(observed, shadow)).decode(),
        request_id=clean(observed.request_id, MAXIMUM_REQUEST_ID),
        place=observed.place,
    )


def _reason(observed: Observed) -> str:
    if observed.disagrees:
        did = "allowed" if observed.allowed else "denied"
        return f"the proxy {did} it, but by the set in force: {observed.decision.reason}"
    if observed.named and parse_rule(observed.named) is None and not observed.decision.rule:
        said = "" if observed.decision.allowed else f"; {observed.decision.reason}"
        return f"{observed.named}{said}"
    if observed.allowed is observed.decision.allowed:
        return observed.decision.reason
    return f"the proxy named {observed.named or 'no rule'}"


def _details(observed: Observed, shadow: Decision | None) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if observed.count > 1:
        details["count"] = observed.count
    if observed.request_id:
        details["request_id"] = clean(observed.request_id, MAXIMUM_REQUEST_ID)
    if observed.named:
        details["named"] = clean(observed.named, _MAXIMUM_TEXT)
    if observed.disagrees:
        details["disagrees"] = True
    if observed.is_partial:
        details["partial"] = True
    if observed.decision.audited:
        details["audited"] = [rule.name for rule in observed.decision.audited[:_SHOWN_RULES]]
    if shadow is not None:
        rule = None if shadow.rule is None else shadow.rule.index
        why = clean(shadow.reason, MAXIMUM_REASON)
        details["shadow"] = {"policy": shadow.policy, "rule": rule, "reason": why}
    return details
