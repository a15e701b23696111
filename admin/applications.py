"""Decisions for applications that enforce policy themselves, asked over the network.

An application asks about requests to its own workload. What that is comes from its proof: the
namespace from the evidence that its SVID was issued on, the labels from its pod, or from the proxy
in front of it; never from what it says. Where nothing says so it is refused, unless
`admin.applications` lets it ask about every workload of some namespaces. So nobody reads the whole
policy by asking. What it asks is decided now, whatever time it says, and each decision is recorded
as those of proxies are (`authz.records`), within bounds of the application's own: the source is
what it claims, nobody attested it, and the audit log has the application as who acted.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from admin.roles import Roles, may_ask_about
from admin.visitor import Visitor
from authz.check import checked
from authz.policy import PolicySet
from authz.records.observed import APPLICATION, Observed
from authz.records.recorder import DecisionRecorder
from authz.workload import Workload
from identity.caller import Caller
from meshca.clock import Clock
from meshca.errors import IdentityForbidden, RequestRefused

MAXIMUM_REQUESTS: Final = 1_000
"""Requests that an application asks about at once."""
_AT_ONCE: Final = 100


class NotItsWorkload(IdentityForbidden):
    """An application asks about somebody else's workload; the message names its own only."""

    @property
    def public_message(self) -> str:  # type: ignore[override]  # speaks of the caller's own workload
        """Return the message itself."""
        return str(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applications:
    """Answers applications; `workload_of` returns the workload of a caller, if it is known."""

    roles: Roles
    workload_of: Callable[[Caller], Workload | None]
    policies: Callable[[], PolicySet]
    recorder: DecisionRecorder
    clock: Clock

    async def check(self, visitor: Visitor, requests: list[Any], request_id: str) -> list[Any]:
        """Return the answer to each of `requests`, in the shape of `authz.check`.

        Raises NotItsWorkload if one of them is about another workload, RequestRefused for too many.
        """
        if len(requests) > MAXIMUM_REQUESTS:
            raise RequestRefused("too_many", f"at most {MAXIMUM_REQUESTS} requests at once")
        asked = [self._own(visitor, request) for request in requests]
        answers = []
        for number, request in enumerate(asked):
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # proxies ask on the same loop
            answers.append(self._decide(visitor, request, request_id))
        return answers

    def _decide(self, visitor: Visitor, asked: Any, request_id: str) -> Any:
        now = self.clock.now()
        answer, decided = checked(self.policies(), asked, now=now.timestamp())
        if decided is not None:
            request, decision = decided
            self.recorder.record(
                Observed(
                    request=request,
                    allowed=decision.allowed,
                    decision=decision,
                    at=now,
                    door=APPLICATION,
                    destination=visitor.actor,
                    asked_by=visitor.actor,
                    request_id=request_id,
                )
            )
        return answer

    def _own(self, visitor: Visitor, request: Any) -> Any:
        """Return `request` with the destination that `visitor` may ask about."""
        if not isinstance(request, dict):
            return request  # no request at all: answered as such
        timeless = {key: value for key, value in request.items() if key != "time"}
        destination = request.get("destination")
        given = destination if isinstance(destination, dict) else {}
        namespaces = self.roles.namespaces_of(visitor.subjects)
        if may_ask_about(namespaces, str(given.get("namespace", ""))):
            return timeless
        own = None if visitor.caller is None else self.workload_of(visitor.caller)
        if own is None:
            raise NotItsWorkload(
                "workload_unknown",
                f"nothing says which workload {visitor.actor} is: watch its pods (policy.pods), or "
                "name its namespace in admin.applications",
            )
        return {**timeless, "destination": {**given, **_only(own, given, visitor)}}


def _only(own: Workload, given: Mapping[str, Any], visitor: Visitor) -> dict[str, Any]:
    """Return `own` as a destination says it; raises NotItsWorkload if `given` says another."""
    labels = dict(sorted(own.labels))
    is_other = given.get("namespace", own.namespace) != own.namespace
    if is_other or given.get("labels", labels) != labels:
        shown = ",".join(f"{key}={value}" for key, value in labels.items())
        raise NotItsWorkload(
            "not_its_workload",
            f"{visitor.actor} may ask about its own workload only: {own.namespace}/{shown}",
        )
    return {"namespace": own.namespace, "labels": labels}
