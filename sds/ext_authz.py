"""`envoy.service.auth.v3.Authorization/Check`: what RBAC cannot say, a proxy asks about here.

    1  who asks is proved as on every call; it asks for its own workload, whatever the message says
    2  the request is read; one that cannot be is denied
    3  the providers that CUSTOM rules name are asked
    4  the engine decides, at the second of the decision
    5  the decision is recorded, and the answer is yes or no

Whatever fails after 1 denies. The reason is for the log and the record, never for the proxy or the
caller behind it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from envoy.service.auth.v3.external_auth_pb2 import CheckRequest

from authz.decision import Decision, Outcome
from authz.engine import NO_ANSWERS, compile_workload, decide, providers_for
from authz.policy import PolicySet
from authz.providers import ProviderAnswer, Providers
from authz.records.observed import EXT_AUTHZ, Observed
from authz.records.recorder import DecisionRecorder
from authz.request import Request
from identity.caller import Caller
from meshca.clock import Clock
from meshca.logs import get_logger
from meshca.metrics import Metrics
from sds.check_request import REMOTE_ADDRESS_KEY, request_id_of, to_request
from sds.check_response import ALLOWED, DENIED, allowed_with
from sds.known_callers import KnownCallers, Proof, place_of
from sds.workloads import Workloads

SERVICE: Final = "envoy.service.auth.v3.Authorization"
METHOD: Final = "Check"
DOOR: Final = "ext_authz"
_NO_ANSWERS: Final[Mapping[str, ProviderAnswer]] = {}

log = get_logger("sds")


class _RecordedError(Exception):
    """The engine could not decide; that is recorded as any decision is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtAuthz:
    """Answers Check."""

    callers: KnownCallers
    workloads: Workloads
    policies: Callable[[], PolicySet]
    providers: Providers
    recorder: DecisionRecorder
    clock: Clock
    metrics: Metrics

    async def check(self, message: bytes, proof: Proof) -> bytes:
        """Return the CheckResponse to a CheckRequest.

        Raises Refused or Unavailable if the caller cannot be attested; anything else denies.
        """
        started = self.clock.monotonic()
        caller = await self.callers.admit(DOOR, proof)
        try:
            answer = await self._answer(caller, message, proof)
        except Exception as error:  # noqa: BLE001  # whatever goes wrong here must deny, and say so
            log.error("check_failed", proxy=str(caller.spiffe_id), error=str(error))
            self.metrics.authz_checks.labels("error").inc()
            if not isinstance(error, _RecordedError):
                self.recorder.lose("error")
            answer = DENIED
        self.metrics.authz_check_seconds.observe(self.clock.monotonic() - started)
        return answer

    async def _answer(self, caller: Caller, message: bytes, proof: Proof) -> bytes:
        workload = self.workloads.find(caller, proof.metadata)
        if workload is None:
            raise LookupError("nothing says which workload the proxy stands before")
        now, policies = self.clock.now(), self.policies()
        attributes = CheckRequest.FromString(message).attributes
        remote = proof.metadata.get(REMOTE_ADDRESS_KEY)
        request = to_request(attributes, workload, now.timestamp(), remote)
        said, answers = _NO_ANSWERS, NO_ANSWERS
        if names := providers_for(policies, request):
            asked = providers_for(policies, request, on_trial=False)
            said = await self.providers.ask(asked, message)
            # Those on trial are not asked: nobody waits for them, and they are taken to allow.
            answers = {**dict.fromkeys(names, True), **{n: a.allowed for n, a in said.items()}}
            now, policies = self.clock.now(), self.policies()  # what holds now, not before
            request = replace(request, time=now.timestamp())
            if providers_for(policies, request, on_trial=False) != asked:
                answers = {name: a.allowed for name, a in said.items()}
        decision = decide(policies, request, answers=answers)
        self.recorder.record(
            Observed(
                request=request,
                allowed=decision.allowed,
                decision=decision,
                at=now,
                door=EXT_AUTHZ,
                destination=str(caller.spiffe_id),
                request_id=request_id_of(attributes),
                place=place_of(caller),
            )
        )
        return self._said(decision, _added(policies, request, decision, said))

    def _said(self, decision: Decision, added: list[Any]) -> bytes:
        if decision.outcome is Outcome.ERROR:
            raise _RecordedError(decision.reason)
        self.metrics.authz_checks.labels("allow" if decision.allowed else "deny").inc()
        if not decision.allowed:
            return DENIED
        return allowed_with(added) if added else ALLOWED


def _added(
    policies: PolicySet,
    request: Request,
    decision: Decision,
    said: Mapping[str, ProviderAnswer],
) -> list[Any]:
    """Return what the providers of rules in force add; those on trial add nothing."""
    if not said or not decision.allowed:
        return []
    layer = compile_workload(policies, request.destination).enforced
    rules = layer.custom.find_all(decision.facts, time=request.time)
    names = dict.fromkeys(rule.provider for rule in rules)
    return [said[name].ok for name in names if name in said and said[name].ok is not None]
