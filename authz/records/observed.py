"""A decision that was made, and who wants to hear of each.

`Observers` is how others of this process follow decisions as they come (a canary that is taken
back, for one): a callback is told of every one, must be quick, and cannot stop the next.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from authz.decision import Decision
from authz.request import Request
from meshca.logs import get_logger

EXT_AUTHZ: Final = "ext_authz"
ACCESS_LOG: Final = "access_log"
APPLICATION: Final = "application"

log = get_logger("authz")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a decision was made: at the proxy of which pod; empty text where that is not known."""

    cluster: str = ""
    service_account: str = ""
    pod: str = ""
    node: str = ""


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One decision, or `count` equal ones.

    `allowed` is what happened to the request: the proxy's word. `decision` is the engine's, about
    the same request under the set in force now. `is_partial` says that facts which a rule of the
    workload looks at are not known here, so that the two may differ without anything being wrong;
    `disagrees` that they differ although nothing explains it.
    `destination` is the SPIFFE ID of the proxy; `named` the rule that it named, as `Rule.name`.
    `asked_by` is the application that asked, which says itself who the source is; empty where a
    proxy attested it. `request_id` is what the caller, or a proxy on the way, calls the request.
    """

    request: Request
    allowed: bool
    decision: Decision
    at: datetime
    door: str
    count: int = 1
    destination: str = ""
    asked_by: str = ""
    named: str = ""
    is_partial: bool = False
    disagrees: bool = False
    request_id: str = ""
    place: Place = NOWHERE

    @property
    def shadow_differs(self) -> bool:
        """Return whether what is on trial would have decided otherwise, as far as is known."""
        shadow = self.decision.shadow
        if shadow is None or self.is_partial:
            return False
        return shadow.allowed is not self.decision.allowed


Observer = Callable[[Observed], None]


@dataclass(slots=True)
class Observers:
    """Those who are told of every decision; belongs to the event loop."""

    _callbacks: dict[object, Observer] = field(default_factory=dict)

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell `observer` of each decision from now on; return what ends that."""
        key = object()
        self._callbacks[key] = observer

        def unsubscribe() -> None:
            self._callbacks.pop(key, None)

        return unsubscribe

    def tell(self, observed: Observed) -> None:
        """Tell everybody of `observed`; an observer that fails is logged."""
        for callback in tuple(self._callbacks.values()):
            try:
                callback(observed)
            except Exception:  # one observer's error must not keep a decision from the others
                log.exception("decision_observer_failed")
